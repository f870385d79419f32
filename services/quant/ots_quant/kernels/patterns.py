"""The recursions of pattern detection: each walks the bars once, oldest first, and looks only back.

Sums over a window are made anew at each bar, so that a value depends on its window alone and on nothing before it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ots_quant.compiled import FLOAT, INT, READ, READ_INTS, WRITE, WRITE_INTS, kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@kernel(INT(READ, READ, READ, READ, WRITE_INTS, WRITE, WRITE_INTS, WRITE_INTS))
def zigzag(
    high: Floats, low: Floats, close: Floats, reversal: Floats, index: Ints, price: Floats, kind: Ints, confirmed: Ints
) -> int:
    """Alternating extremes, each confirmed by the first close that is ``reversal`` away from it; returns how many.

    The extreme of a leg is looked for from the bar after the one before it. On one bar the high and the low have no
    known order in time, but its close comes last: an extreme that is confirmed on its own bar is followed by that
    bar's close. A bar whose ``reversal`` is NaN confirms nothing. The outputs have room for one pivot a bar.
    """
    count = 0
    leg = 0  # +1 looks for a high, -1 for a low; 0 until the first of either is confirmed
    best, best_at = -math.inf, 0  # the extreme so far, and what would follow it; both times ``leg``
    back, back_at = math.inf, 0
    top, top_at, bottom, bottom_at = -math.inf, 0, math.inf, 0
    for t in range(len(close)):
        if leg == 0:
            if high[t] > top:
                top, top_at = high[t], t
            if low[t] < bottom:
                bottom, bottom_at = low[t], t
            if top - close[t] >= reversal[t] and top - close[t] >= close[t] - bottom:
                leg, best, best_at = 1, top, top_at
            elif close[t] - bottom >= reversal[t]:
                leg, best, best_at = -1, -bottom, bottom_at
            else:
                continue
            back, back_at = (low[t] if leg > 0 else -high[t]), t
        else:
            forward = high[t] if leg > 0 else -low[t]
            against = low[t] if leg > 0 else -high[t]
            if forward > best:
                best, best_at = forward, t
                back, back_at = math.inf, t
            elif against < back:
                back, back_at = against, t
        if best - leg * close[t] >= reversal[t]:
            index[count], price[count], kind[count], confirmed[count] = best_at, leg * best, leg, t
            count += 1
            if best_at == t:
                back, back_at = leg * close[t], t
            best, best_at = -back, back_at
            leg = -leg
            back = math.inf
            if best_at < t:
                back = low[t] if leg > 0 else -high[t]
            back_at = t
    return count


@kernel((READ, READ_INTS, READ_INTS, READ_INTS, READ, READ, READ, READ, WRITE_INTS, WRITE_INTS))
def resolve(
    close: Floats,
    opened: Ints,
    expires: Ints,
    anchor: Ints,
    upper: Floats,
    upper_slope: Floats,
    lower: Floats,
    lower_slope: Floats,
    side: Ints,
    bar: Ints,
) -> None:
    """Which of two lines each candidate's closes cross first, and when: ``side`` +1, -1, or 0 while neither.

    A line's value at bar t is ``upper + upper_slope * (t - anchor)``. Looked at are the bars from ``opened`` to
    ``expires``, both included, as far as there are any.
    """
    last = len(close) - 1
    for i in range(len(opened)):
        side[i], bar[i] = 0, -1
        for t in range(opened[i], min(expires[i], last) + 1):
            if close[t] > upper[i] + upper_slope[i] * (t - anchor[i]):
                side[i], bar[i] = 1, t
                break
            if close[t] < lower[i] + lower_slope[i] * (t - anchor[i]):
                side[i], bar[i] = -1, t
                break


@kernel((READ, INT, WRITE))
def mean_before(values: Floats, window: int, out: Floats) -> None:
    """The mean of the ``window`` values before each bar; NaN for the first ``window`` bars."""
    for t in range(len(values)):
        if t < window:
            out[t] = math.nan
            continue
        total = 0.0
        for j in range(t - window, t):
            total += values[j]
        out[t] = total / window


@kernel((READ, INT, WRITE))
def deviation(values: Floats, window: int, out: Floats) -> None:
    """The standard deviation (ddof 0) of the last ``window`` values; NaN for the first ``window - 1`` bars."""
    for t in range(len(values)):
        if t < window - 1:
            out[t] = math.nan
            continue
        mean = 0.0
        for j in range(t - window + 1, t + 1):
            mean += values[j]
        mean /= window
        total = 0.0
        for j in range(t - window + 1, t + 1):
            total += (values[j] - mean) * (values[j] - mean)
        out[t] = math.sqrt(total / window)


@kernel((READ, INT, WRITE, WRITE, WRITE, WRITE))
def regression(values: Floats, window: int, slope: Floats, fit: Floats, spread: Floats, t_value: Floats) -> None:
    """Least squares of the last ``window`` values on time, and the t-value of their mean step; NaN at the start.

    ``slope`` a bar, ``fit`` R², ``spread`` the residuals' standard deviation (ddof 2), ``t_value`` = mean step / its
    standard error. All are 0 where the values do not move.
    """
    middle = 0.5 * (window - 1)
    sum_xx = window * (window * window - 1) / 12.0
    steps = window - 1
    for t in range(len(values)):
        if t < window - 1:
            slope[t], fit[t], spread[t], t_value[t] = math.nan, math.nan, math.nan, math.nan
            continue
        first = t - window + 1
        step = (values[t] - values[first]) / steps
        total, sum_xy, sum_yy, variance = 0.0, 0.0, 0.0, 0.0
        before = 0.0
        for j in range(1, window):
            away = values[first + j] - values[first]  # from the first value: small numbers lose no digits
            total += away
            sum_xy += (j - middle) * away
            sum_yy += away * away
            variance += (away - before - step) * (away - before - step)
            before = away
        sum_yy = max(sum_yy - total * total / window, 0.0)
        variance /= steps - 1
        slope[t] = sum_xy / sum_xx
        fit[t] = min(sum_xy * sum_xy / (sum_xx * sum_yy), 1.0) if sum_yy > 0.0 else 0.0
        left = max(sum_yy - sum_xy * sum_xy / sum_xx, 0.0)
        spread[t] = math.sqrt(left / (window - 2))
        t_value[t] = step / math.sqrt(variance / steps) if variance > 0.0 else 0.0


@kernel(INT(READ_INTS, READ_INTS, WRITE_INTS, WRITE_INTS))
def enter_states(enters: Ints, stays: Ints, began: Ints, state: Ints) -> int:
    """A state with hysteresis: it is entered where ``enters`` is +1 or -1, and lasts while ``stays`` has its sign.

    ``state`` holds it bar by bar; ``began`` the bars at which one was entered; returns how many.
    """
    count = 0
    now = 0
    for t in range(len(enters)):
        if now != 0 and stays[t] != now:
            now = 0
        if now == 0 and enters[t] != 0:
            now = enters[t]
            began[count] = t
            count += 1
        state[t] = now
    return count


@kernel(INT(READ, READ, READ, READ, INT, INT, INT, FLOAT, FLOAT, WRITE_INTS, WRITE_INTS, WRITE_INTS, WRITE, WRITE))
def flags(
    high: Floats,
    low: Floats,
    close: Floats,
    atr: Floats,
    pole_bars: int,
    least_bars: int,
    most_bars: int,
    pole_atr: float,
    most_retraced: float,
    base_at: Ints,
    top_at: Ints,
    broke_at: Ints,
    line: Floats,
    floor: Floats,
) -> int:
    """Bull flags; bear flags are those of the mirrored prices (-low, -high, -close). Returns how many.

    A pole is a rise of ``pole_atr`` ATR (the ATR before it) within ``pole_bars`` bars to a new high of as many bars.
    The flag is what follows its top: it is broken by the first close above the least-squares line through its highs
    after ``least_bars`` bars, if that line does not rise; it is given up after ``most_bars``, or on a close that gives
    back more than ``most_retraced`` of the pole. ``line`` is that line's value, ``floor`` the flag's lowest low.
    """
    count = 0
    top = -1  # the bar of the pole's top; -1 while there is none
    base = 0
    sum_x, sum_xx, sum_y, sum_xy = 0.0, 0.0, 0.0, 0.0  # of the flag's highs less the top's, x = bars after the top
    lowest = math.inf
    for t in range(pole_bars + 1, len(close)):
        if top >= 0:
            bars = t - top
            height = high[top] - low[base]
            above = False
            if bars > least_bars:
                m = bars - 1  # the bars of the flag before this one
                slope = (m * sum_xy - sum_x * sum_y) / (m * sum_xx - sum_x * sum_x)
                level = high[top] + sum_y / m + slope * (bars - sum_x / m)
                above = close[t] > level
                if above and slope <= 0.0:
                    base_at[count], top_at[count], broke_at[count] = base, top, t
                    line[count], floor[count] = level, min(lowest, low[t])
                    count += 1
            if above or bars >= most_bars or close[t] < high[top] - most_retraced * height:
                top = -1
            elif bars > least_bars or high[t] <= high[top]:
                away = high[t] - high[top]
                sum_x, sum_xx = sum_x + bars, sum_xx + bars * bars
                sum_y, sum_xy = sum_y + away, sum_xy + bars * away
                lowest = min(lowest, low[t])
                continue
            else:
                top = -1  # a new high while the flag is too short to be one: the pole may go on
        lowest_at = t - pole_bars
        highest = -math.inf
        for j in range(t - pole_bars, t):
            if low[j] <= low[lowest_at]:
                lowest_at = j
            highest = max(highest, high[j])
        if high[t] > highest and high[t] - low[lowest_at] >= pole_atr * atr[lowest_at - 1]:
            top, base = t, lowest_at
            sum_x, sum_xx, sum_y, sum_xy = 0.0, 0.0, 0.0, 0.0
            lowest = math.inf
    return count


@kernel(INT(READ, READ, READ_INTS, INT, WRITE_INTS, WRITE_INTS, WRITE))
def islands(high: Floats, low: Floats, gaps: Ints, most_bars: int, gapped: Ints, left: Ints, bottom: Floats) -> int:
    """Island tops; island bottoms are those of the mirrored prices (-low, -high). Returns how many.

    ``gaps``: the bars that opened a gap upwards. An island ends at the first bar whose high is below all its lows
    (``bottom``) within ``most_bars`` bars, if the gap was still open until then.
    """
    count = 0
    for i in range(len(gaps)):
        first = gaps[i]
        lowest = low[first]
        for t in range(first + 1, min(first + most_bars + 1, len(high))):
            if high[t] < lowest:
                gapped[count], left[count], bottom[count] = first, t, lowest
                count += 1
                break
            lowest = min(lowest, low[t])
            if lowest <= high[first - 1]:
                break
    return count

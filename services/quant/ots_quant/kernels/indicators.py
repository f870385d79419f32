"""Recursions over bars that TA-Lib has not, or not for a session: one row of bars in, one row filled.

Every kernel reads bar i and those before it to fill output i, so none can look ahead. A negative session id marks a bar
outside every session: it is passed over, and its output is NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from ots_quant.compiled import FLOAT, INT, READ, READ_INTS, WRITE, inline, kernel
from ots_quant.indicators.panels import Ids, Series

_MOST_BINS = 1_000_000
_THIRD = 1.0 / 3.0


@inline
def _true_range(high: float, low: float, before: float) -> float:
    return (high if high > before else before) - (low if low < before else before)


@inline
def _rounded(product: float) -> float:
    """A product that is not negative, as it is: the choice keeps LLVM from fusing it with the addition that follows.

    So the bands have the same bits on every machine and in the stream, and a close at a band falls on one side of it.
    """
    return product if product > 0.0 else 0.0


@kernel(types.void(READ, READ, READ, INT, FLOAT, WRITE, WRITE))
def supertrend(
    high: Series, low: Series, close: Series, period: int, multiplier: float, line: Series, direction: Series
) -> None:
    """Wilder's ATR and the ratchet of the two bands in one pass; starts upwards, as TA-Lib's SUPERTREND does."""
    n = len(close)
    line[: min(period, n)] = np.nan
    direction[: min(period, n)] = np.nan
    if n <= period:
        return
    atr = 0.0
    for i in range(1, period + 1):
        atr += _true_range(high[i], low[i], close[i - 1])
    atr /= period
    # Wilder's mean without a division a bar, which would be most of the time
    kept, fresh = (period - 1.0) / period, 1.0 / period
    middle, width = 0.5 * (high[period] + low[period]), _rounded(multiplier * atr)
    upper, lower, up = middle + width, middle - width, True
    line[period], direction[period] = lower, 1.0
    before = close[period]
    # slices from here on, so that no index needs a test for being negative
    highs, lows, closes = high[period + 1 :], low[period + 1 :], close[period + 1 :]
    lines, directions = line[period + 1 :], direction[period + 1 :]
    for i in range(len(closes)):
        h, low_, c = highs[i], lows[i], closes[i]
        atr = _rounded(atr * kept) + _rounded(_true_range(h, low_, before) * fresh)
        middle, width = 0.5 * (h + low_), _rounded(multiplier * atr)
        upper_now, lower_now = middle + width, middle - width
        upper = upper_now if (upper_now < upper) | (before > upper) else upper
        lower = lower_now if (lower_now > lower) | (before < lower) else lower
        # a trend lasts: this branch is predicted well, which a choice between the bands would not be
        up = c >= lower if up else c > upper
        if up:
            lines[i], directions[i] = lower, 1.0
        else:
            lines[i], directions[i] = upper, -1.0
        before = c


@kernel(types.void(READ, READ, READ, READ, READ_INTS, FLOAT, WRITE, WRITE, WRITE))
def session_vwap(
    high: Series,
    low: Series,
    close: Series,
    volume: Series,
    session: Ids,
    deviations: float,
    mean: Series,
    upper: Series,
    lower: Series,
) -> None:
    """Weighted mean and variance of the typical price, updated as West (1979) does, which loses no digits."""
    current = np.int64(-1)
    weight, average, squares = 0.0, 0.0, 0.0
    for i in range(len(close)):
        mean[i], upper[i] = np.nan, np.nan
        if session[i] < 0:
            continue
        if session[i] != current:
            current, weight, average, squares = session[i], 0.0, 0.0, 0.0
        weight += volume[i]
        if weight > 0.0:
            price, share = (high[i] + low[i] + close[i]) * _THIRD, 1.0 / weight
            step = price - average
            # the first price is the mean as it stands: v * (1 / v) may not be 1
            average = price if weight == volume[i] else average + step * (volume[i] * share)
            squares += volume[i] * step * (price - average)
            mean[i], upper[i] = average, squares * share
    # roots on their own, so that they become SIMD code; NaN stays NaN
    for i in range(len(close)):
        band = deviations * math.sqrt(0.0 if upper[i] < 0.0 else upper[i])
        upper[i], lower[i] = mean[i] + band, mean[i] - band


@kernel(types.void(READ, READ, READ, READ_INTS, WRITE, WRITE, WRITE, WRITE, WRITE, WRITE, WRITE))
def pivots(
    high: Series,
    low: Series,
    close: Series,
    session: Ids,
    pivot: Series,
    r1: Series,
    r2: Series,
    r3: Series,
    s1: Series,
    s2: Series,
    s3: Series,
) -> None:
    """Floor traders' levels from high, low and last close of the session before, at each bar of a session."""
    current = np.int64(-1)
    highest, lowest, last = np.nan, np.nan, np.nan
    p, up1, up2, up3, down1, down2, down3 = np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan
    for i in range(len(close)):
        if session[i] < 0:
            pivot[i], r1[i], r2[i], r3[i] = np.nan, np.nan, np.nan, np.nan
            s1[i], s2[i], s3[i] = np.nan, np.nan, np.nan
            continue
        if session[i] != current:
            current = session[i]
            p = (highest + lowest + last) / 3.0
            up1, up2, up3 = 2.0 * p - lowest, p + (highest - lowest), highest + 2.0 * (p - lowest)
            down1, down2, down3 = 2.0 * p - highest, p - (highest - lowest), lowest - 2.0 * (highest - p)
            highest, lowest = high[i], low[i]
        highest = high[i] if high[i] > highest else highest
        lowest = low[i] if low[i] < lowest else lowest
        last = close[i]
        pivot[i], r1[i], r2[i], r3[i], s1[i], s2[i], s3[i] = p, up1, up2, up3, down1, down2, down3


@kernel(types.void(READ, READ, READ_INTS, WRITE))
def gap(open_: Series, close: Series, session: Ids, gaps: Series) -> None:
    """First open of the session over the last close of the session before, less 1."""
    current = np.int64(-1)
    last, found = np.nan, np.nan
    for i in range(len(close)):
        if session[i] < 0:
            gaps[i] = np.nan
            continue
        if session[i] != current:
            current, found = session[i], open_[i] / last - 1.0
        last = close[i]
        gaps[i] = found


@kernel(types.void(READ, READ, READ_INTS, READ_INTS, INT, WRITE, WRITE))
def opening_range(
    high: Series, low: Series, session: Ids, slot: Ids, slots: int, range_high: Series, range_low: Series
) -> None:
    """Extremes of the bars whose slot is below ``slots``, from the moment that the last such slot has passed."""
    current = np.int64(-1)
    highest, lowest = -np.inf, np.inf
    for i in range(len(high)):
        range_high[i], range_low[i] = np.nan, np.nan
        if session[i] < 0:
            continue
        if session[i] != current:
            current, highest, lowest = session[i], -np.inf, np.inf
        if slot[i] < slots:
            highest, lowest = max(highest, high[i]), min(lowest, low[i])
        if slot[i] >= slots - 1 and highest >= lowest:
            range_high[i], range_low[i] = highest, lowest


@kernel(types.void(READ, READ_INTS, READ_INTS, INT, WRITE, WRITE))
def relative_volume(volume: Series, session: Ids, slot: Ids, sessions: int, of_bar: Series, of_session: Series) -> None:
    """Volume against its mean at the same slot in those of the ``sessions`` sessions before that had a bar there."""
    slots = 0
    for i in range(len(volume)):
        if session[i] >= 0:
            slots = max(slots, slot[i] + 1)
    # a ring of sessions for each slot; `when` says which session an element is of
    when = np.full((slots, sessions), -1)
    bars = np.empty((slots, sessions))
    sums = np.empty((slots, sessions))
    current, number, so_far = np.int64(-1), -1, 0.0
    for i in range(len(volume)):
        of_bar[i], of_session[i] = np.nan, np.nan
        if session[i] < 0:
            continue
        if session[i] != current:
            current, so_far = session[i], 0.0
            number += 1
        so_far += volume[i]
        at = slot[i]
        if number >= sessions:
            usual, usual_so_far, found = 0.0, 0.0, 0
            for j in range(sessions):
                if when[at, j] >= 0 and when[at, j] >= number - sessions:
                    usual += bars[at, j]
                    usual_so_far += sums[at, j]
                    found += 1
            if usual > 0.0:
                of_bar[i] = volume[i] * found / usual
            if usual_so_far > 0.0:
                of_session[i] = so_far * found / usual_so_far
        j = number % sessions
        when[at, j], bars[at, j], sums[at, j] = number, volume[i], so_far


@kernel(types.void(READ, READ, READ, READ, READ_INTS, FLOAT, FLOAT, WRITE, WRITE, WRITE))
def volume_profile(
    open_: Series,
    high: Series,
    low: Series,
    volume: Series,
    session: Ids,
    width: float,
    share: float,
    point: Series,
    area_high: Series,
    area_low: Series,
) -> None:
    """The profile of the session so far: bins of ``width`` times the session's first open, one centred on that open."""
    n = len(open_)
    i = 0
    while i < n:
        if session[i] < 0:
            point[i], area_high[i], area_low[i] = np.nan, np.nan, np.nan
            i += 1
            continue
        # the extent of the session only sizes the buffer: no value depends on it
        end, highest, lowest = i, high[i], low[i]
        while end < n and (session[end] == session[i] or session[end] < 0):
            if session[end] >= 0:
                highest, lowest = max(highest, high[end]), min(lowest, low[end])
            end += 1
        reference, step = open_[i], open_[i] * width
        if highest - lowest > _MOST_BINS * step:
            raise ValueError("bin_width is too small for the range of a session: more than a million bins")
        # bin b holds the prices from b - 1/2 to b + 1/2 steps off the reference; the buffer begins with `lowest_bin`
        lowest_bin = math.floor((lowest - reference) / step + 0.5)
        held = np.zeros(math.floor((highest - reference) / step + 0.5) - lowest_bin + 1)
        first_bin, last_bin = len(held), -1
        floor_price, top_price, total = np.inf, -np.inf, 0.0
        for j in range(i, end):
            point[j], area_high[j], area_low[j] = np.nan, np.nan, np.nan
            if session[j] < 0:
                continue
            floor_price, top_price = min(floor_price, low[j]), max(top_price, high[j])
            under, over = (low[j] - reference) / step + 0.5, (high[j] - reference) / step + 0.5
            under_bin, over_bin = math.floor(under), math.floor(over)
            first, last = under_bin - lowest_bin, over_bin - lowest_bin
            first_bin, last_bin = min(first_bin, first), max(last_bin, last)
            total += volume[j]
            if first == last:
                held[first] += volume[j]
            else:
                each = volume[j] / (over - under)
                held[first] += each * (under_bin + 1.0 - under)
                for b in range(first + 1, last):
                    held[b] += each
                held[last] += each * (over - over_bin)
            if total <= 0.0:
                continue
            half = (0.5 * (floor_price + top_price) - reference) / step
            best = first_bin
            for b in range(first_bin + 1, last_bin + 1):
                nearer = abs(b + lowest_bin - half) < abs(best + lowest_bin - half)
                if held[b] > held[best] or (held[b] == held[best] and nearer):
                    best = b
            up, down, covered = best, best, held[best]
            while covered < share * total and (up < last_bin or down > first_bin):
                above = held[up + 1] if up < last_bin else 0.0
                above += held[up + 2] if up + 1 < last_bin else 0.0
                below = held[down - 1] if down > first_bin else 0.0
                below += held[down - 2] if down - 1 > first_bin else 0.0
                if up < last_bin and (above >= below or down == first_bin):
                    up = min(up + 2, last_bin)
                    covered += above
                else:
                    down = max(down - 2, first_bin)
                    covered += below
            point[j] = reference + (best + lowest_bin) * step
            area_high[j] = reference + (up + lowest_bin + 0.5) * step
            area_low[j] = reference + (down + lowest_bin - 0.5) * step
        i = end

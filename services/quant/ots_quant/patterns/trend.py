"""Trend: a straight line through the last 50 log closes, and whether it is more than chance.

A t-value of the line's slope would be useless: the residuals of prices are correlated, and a random walk looks like a
trend most of the time (C. Granger and P. Newbold, "Spurious Regressions in Econometrics", J. Econometrics 2, 1974). So
the fit (R²) says how straight, and the significance is that of the mean return, whose t-value is valid for a random
walk. It is looked at on every bar, so a random walk still shows trends: docs/PATTERNS.md says how many.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from ots_quant.kernels import patterns as kernels
from ots_quant.patterns.candidates import no_swings, price_levels, table
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Study

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAMILY = "trend"
WINDOW = 50
_FREEDOM = WINDOW - 2
_ENTER_FIT, _ENTER_P = 0.6, 0.05
_LEAVE_FIT, _LEAVE_P = 0.4, 0.2


class Trend(NamedTuple):
    """Bar by bar, shape (n,): the line through the last 50 log closes; NaN for the first 49 bars.

    ``slope`` in log price a bar, ``fit`` R², ``spread`` the residuals' standard deviation, ``t_value`` of the mean
    return (48 degrees of freedom), ``state`` +1 up, -1 down, 0 none, ``began`` the bars that established a trend.
    """

    slope: Floats
    fit: Floats
    spread: Floats
    t_value: Floats
    state: Ints
    began: Ints


def find_trend(study: Study) -> Trend:
    """The trend of every bar. One is established at R² >= 0.6 and p <= 0.05, and over at R² < 0.4 or p > 0.2."""
    n = len(study.bars)
    slope, fit, spread, t_value = (np.empty(n) for _ in range(4))
    kernels.regression(np.log(study.bars.close), WINDOW, slope, fit, spread, t_value)
    sign = np.where(slope > 0, 1, -1) * (slope * t_value > 0)
    enters = np.where((fit >= _ENTER_FIT) & (np.abs(t_value) >= _t_of(_ENTER_P)), sign, 0)
    stays = np.where((fit >= _LEAVE_FIT) & (np.abs(t_value) >= _t_of(_LEAVE_P)), sign, 0)
    began, state = np.empty(n, np.int64), np.empty(n, np.int64)
    count = kernels.enter_states(enters, stays, began, state)
    return Trend(slope, fit, spread, t_value, state, began[:count])


def p_value(t_value: Floats) -> Floats:
    """Two-sided probability of a ``t_value`` at least as large when the mean return is zero."""
    probability: Floats = 2 * stdtr(_FREEDOM, -np.abs(t_value))
    return probability


def _t_of(probability: float) -> float:
    return float(stdtrit(_FREEDOM, 1 - probability / 2))


def trend(study: Study, sign: int) -> Events:
    """Trends upwards (``sign`` +1) or downwards, at the close that establishes them.

    Neckline: the line's value there; invalidation: two standard deviations of the residuals behind it.
    """
    found = study.once(find_trend)
    at = found.began[found.state[found.began] == sign]
    value = line_value(study, found, at)
    return Events(
        direction=np.full(len(at), sign),
        start=at - WINDOW + 1,
        end=at,
        confirmed=at,
        swings=no_swings(len(at)),
        levels=price_levels(value, None, value * np.exp(-2 * sign * found.spread[at])),
        parts=table([found.fit[at], 1 - p_value(found.t_value[at])]),
    )


def line_value(study: Study, found: Trend, at: Ints) -> Floats:
    """The fitted line's value at its last bar, in dollars, shape of ``at``."""
    window = at[:, None] + np.arange(1 - WINDOW, 1)
    mean = np.log(study.bars.close)[window].mean(axis=1)
    value: Floats = np.exp(mean + found.slope[at] * 0.5 * (WINDOW - 1))
    return value


def _detector(name: str, sign: int, way: str) -> Detector:
    return Detector(
        name,
        FAMILY,
        "bullish" if sign > 0 else "bearish",
        f"the last {WINDOW} log closes lie on a {way} line (R² at least {_ENTER_FIT})",
        f"the close at which also the mean return differs from zero at p <= {_ENTER_P}; anew once it was over",
        "Granger and Newbold (1974) on why the slope's own t-value is not used",
        ("fit", "significance"),
        partial(trend, sign=sign),
    )


DETECTORS: tuple[Detector, ...] = (_detector("uptrend", 1, "rising"), _detector("downtrend", -1, "falling"))

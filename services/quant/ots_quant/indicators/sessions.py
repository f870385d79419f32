"""Indicators that begin anew with each session, or look at the session before.

The caller names the sessions: ``session`` is an integer for each bar, the same for the bars of one session and growing
from one to the next (of shape (m,), shared by all rows of a panel, or of the panel's shape). A negative one marks a bar
outside every session: it takes no part, and its value is NaN. ``slot`` is the time of day as an integer, how many bars
after the session's first interval a bar begins; it grows within a session, with holes where no bar is.
The session before is the last one that has a bar: where data is missing, it may lie days back.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ots_quant.indicators.panels import Panel, Series, above_zero, panel, whole
from ots_quant.kernels import checks
from ots_quant.kernels import indicators as kernels

_MOST_SLOTS = 100_000


class Vwap(NamedTuple):
    """Volume-weighted average price, and bands around it; in the unit of the prices."""

    vwap: Series
    upper: Series
    lower: Series


class VolumeProfile(NamedTuple):
    """Price of the largest volume, and the borders of the value area around it; in the unit of the prices."""

    point_of_control: Series
    value_area_high: Series
    value_area_low: Series


class Pivots(NamedTuple):
    """Floor traders' pivot, and three resistances and supports; in the unit of the prices."""

    pivot: Series
    r1: Series
    r2: Series
    r3: Series
    s1: Series
    s2: Series
    s3: Series


class OpeningRange(NamedTuple):
    """Extremes of the session's first bars, in the unit of the prices."""

    high: Series
    low: Series


class RelativeVolume(NamedTuple):
    """Volume over what is usual at that time of day: of the bar, and of the session up to and with the bar."""

    bar: Series
    session: Series


def vwap(
    high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike, session: ArrayLike, deviations: float
) -> Vwap:
    """Volume-weighted mean of the typical price since the session began, and ``deviations`` weighted deviations around.

    The deviation is the root of the volume-weighted variance of the typical price (high + low + close) / 3 around the
    mean so far. NaN until something was traded. Source: S. Berkowitz, D. Logue, E. Noser, Journal of Finance 43 (1988);
    its update as in D. West, Communications of the ACM 22:9 (1979).
    """
    bars = _ordered(panel(high=high, low=low, close=close, volume=volume).with_ids(session=session))
    return Vwap(*bars.fill(kernels.session_vwap, 3, above_zero("deviations", deviations, 1e6)))


def anchored_vwap(
    high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike, anchor: int, deviations: float
) -> Vwap:
    """As `vwap`, of all bars from index ``anchor`` on, whatever their sessions; NaN before.

    Raises ValueError when there is no bar ``anchor``.
    """
    bars = panel(high=high, low=low, close=close, volume=volume)
    length = bars.arrays[0].shape[-1]
    since = np.arange(length) >= whole("anchor", anchor, 0, max(length - 1, 0))
    bars = bars.with_ids(session=np.where(since, 0, -1))
    return Vwap(*bars.fill(kernels.session_vwap, 3, above_zero("deviations", deviations, 1e6)))


def volume_profile(
    open: ArrayLike,
    high: ArrayLike,
    low: ArrayLike,
    volume: ArrayLike,
    session: ArrayLike,
    bin_width: float,
    value_area: float,
) -> VolumeProfile:
    """The profile of the session so far: its point of control, and the area of ``value_area`` of its volume.

    Bins are ``bin_width`` of the session's first open wide (0.0005: 5 basis points), one of them centred on that open:
    a grid that is known when the session begins. A bar's volume is spread evenly from its low to its high. The point of
    control is the centre of the fullest bin (of equals, the one nearest to the middle of the range so far); the area
    grows from it by the larger of the two bins above and the two below, and upwards when they are equal. NaN until
    something was traded. On bars that are whole sessions it says no more than the bar's range.
    Raises ValueError when bin_width or value_area is outside of (0, 1], or a session would span a million bins.
    Source: J. Steidlmayer, CBOT Market Profile (1985); the area as in J. Dalton, Mind over Markets (1990), appendix 1.
    """
    bars = panel(positive=True, open=open, high=high, low=low, volume=volume).with_ids(session=session)
    width, share = above_zero("bin_width", bin_width, 1), above_zero("value_area", value_area, 1)
    return VolumeProfile(*_ordered(bars).fill(kernels.volume_profile, 3, width, share))


def opening_range(high: ArrayLike, low: ArrayLike, session: ArrayLike, slot: ArrayLike, slots: int) -> OpeningRange:
    """Highest high and lowest low of the session's bars in its first ``slots`` slots, once the last of those is over.

    NaN before that, and in a session without a bar in those slots. Source: T. Crabel, Day Trading with Short Term Price
    Patterns and Opening Range Breakout (1990).
    """
    bars = panel(high=high, low=low).with_ids(session=session, slot=slot)
    return OpeningRange(*_ordered(bars, slots=True).fill(kernels.opening_range, 2, whole("slots", slots, 1)))


def relative_volume(volume: ArrayLike, session: ArrayLike, slot: ArrayLike, sessions: int) -> RelativeVolume:
    """Volume over its mean at the same slot in those of the ``sessions`` sessions before that had a bar there.

    1 is usual. NaN until there were so many sessions, and where none of them had volume at that slot. A bar is compared
    with sessions before its own only.
    """
    bars = panel(volume=volume).with_ids(session=session, slot=slot)
    return RelativeVolume(
        *_ordered(bars, slots=True).fill(kernels.relative_volume, 2, whole("sessions", sessions, 1, 10_000))
    )


def pivots(high: ArrayLike, low: ArrayLike, close: ArrayLike, session: ArrayLike) -> Pivots:
    """Floor traders' pivots from the high, low and last close of the session before; NaN in the first session.

    P = (H + L + C) / 3; R1 = 2P - L, S1 = 2P - H; R2 = P + (H - L), S2 = P - (H - L); R3 = H + 2 (P - L),
    S3 = L - 2 (H - P). Source: J. Person, A Complete Guide to Technical Trading Tactics (2004).
    """
    bars = _ordered(panel(high=high, low=low, close=close).with_ids(session=session))
    return Pivots(*bars.fill(kernels.pivots, 7))


def gap(open: ArrayLike, close: ArrayLike, session: ArrayLike) -> Series:
    """The session's first open over the last close of the session before, less 1; known from the first bar on.

    A decimal: 0.01 is a gap of one per cent upwards. NaN in the first session. Raises ValueError where a price is not
    above zero.
    """
    return _ordered(panel(positive=True, open=open, close=close).with_ids(session=session)).fill(kernels.gap, 1)[0]


def _ordered(bars: Panel, *, slots: bool = False) -> Panel:
    """The panel, whose last arrays are the sessions (and slots), once these are in order. Raises ValueError if not."""
    ids = bars.arrays[-2:] if slots else bars.arrays[-1:]
    if not ids[0].size:
        return bars
    if all(array.ndim > 1 and array.strides[0] == 0 for array in ids):
        # shared by all rows: one row of it tells all
        ids = tuple(array[:1] for array in ids)
    for row in zip(*(array.reshape(-1, array.shape[-1]) for array in ids), strict=True):
        if checks.sessions_go_back(row[0]):
            raise ValueError("session must not go back in time")
        if slots and checks.slots_go_back(row[0], row[1], _MOST_SLOTS):
            raise ValueError(f"slot must grow within a session, from 0 to {_MOST_SLOTS - 1:,}")
    return bars

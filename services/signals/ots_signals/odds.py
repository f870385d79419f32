"""The odds of a position's barriers: in a fair market, and as believed after what became of signals before.

**Fair.** `ots_quant.barriers` with each leg's own implied volatility, no drift, and the cost of leaving kept as a share
of each leg's price. An option lives by the calendar and its underlying by sessions, so everything is put on the clock
of `session_clock`, whose assumption ``method`` states.

**Believed.** A Dirichlet posterior: the fair odds count as `PRIOR` outcomes, to which those of the same strategy are
added that had ended before the session opened; so that what is believed does not depend on how fast outcomes are
resolved. What each barrier brings is mixed likewise. The interval is that of a normal law with the posterior's
variance; it treats outcomes as independent, which those of one day are not: verdicts do not rest on it.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS
from ots_quant.barriers import HeldLegs, Terms, first_barrier, on_clock
from ots_signals.decisions import Barriers, Entry, Leg, Odds
from ots_signals.market_view import Floats
from ots_signals.outcomes import Barrier
from ots_signals.session_clock import IN_HOURS, minute_years, session_years

PRIOR = 50.0
_INTERVAL = 1.6449  # standard deviations of a normal law's central 90 %
_DOLLAR = 1_000_000_000
_ENDS = (Barrier.TARGET, Barrier.STOP, Barrier.TIMEOUT)


@dataclass(frozen=True)
class TrackRecord:
    """Of one strategy: outcomes by barrier (target, stop, timeout) and the mean net return at touch of each."""

    counts: tuple[int, int, int]
    means: tuple[float, float, float]

    @property
    def resolved(self) -> int:
        """All of them."""
        return sum(self.counts)


class TrackRecords:
    """What became of signals, by strategy and time: what a decision may know of its predecessors."""

    def __init__(self) -> None:
        self._ended: dict[str, list[tuple[int, int, float]]] = defaultdict(list)

    def add(self, strategy: str, ended_ns: int, barrier: str, net_return: float) -> None:
        """One outcome at touch; one that is indeterminate or not filled says nothing of odds and is passed over."""
        if barrier in _ENDS and np.isfinite(net_return):
            insort(self._ended[strategy], (ended_ns, _ENDS.index(Barrier(barrier)), float(net_return)))

    def known(self, strategy: str, before_ns: int) -> TrackRecord:
        """Those that had ended before a moment."""
        counts, sums = [0, 0, 0], [0.0, 0.0, 0.0]
        for ended, which, net in self._ended.get(strategy, ()):
            if ended >= before_ns:
                break
            counts[which] += 1
            sums[which] += net
        means = [total / count if count else 0.0 for total, count in zip(sums, counts, strict=True)]
        return TrackRecord((counts[0], counts[1], counts[2]), (means[0], means[1], means[2]))


@dataclass(frozen=True)
class Position:
    """What odds are asked of: legs with an implied volatility each, at a moment, with their barriers.

    ``years``: of each leg, by the calendar. ``spot``: dollars.
    """

    at_ns: int
    spot: float
    rate: float
    dividend_yield: float
    legs: tuple[Leg, ...]
    years: tuple[float, ...]
    entry: Entry
    barriers: Barriers


@dataclass(frozen=True)
class FairOdds:
    """Of n positions, arrays (n,): probabilities, and what each end brings net at touch; NaN where unknown."""

    target: Floats
    stop: Floats
    timeout: Floats
    at_target: Floats
    at_stop: Floats
    at_timeout: Floats
    expected: Floats


def fair_odds(positions: Sequence[Position], sessions: Sessions) -> FairOdds:
    """Of all positions at once."""
    n, width = len(positions), max((len(one.legs) for one in positions), default=1)
    legs = HeldLegs(*(np.zeros((n, width)) for _ in HeldLegs._fields))
    volatility = np.full(n, np.nan)
    target, stop, horizon, touch, capital, fees, spot, rate, dividends = (np.zeros(n) for _ in range(9))
    for k, one in enumerate(positions):
        sign = np.array([1.0 if leg.right == "C" else -1.0 for leg in one.legs])
        calendar = np.array(one.years)
        closes = [one.at_ns + round(years * 365 * DAY_NS) for years in one.years]
        years = np.array([session_years(sessions, one.at_ns, close) for close in closes])
        with np.errstate(invalid="ignore", divide="ignore"):
            implied = on_clock([_or_nan(leg.implied_volatility) for leg in one.legs], calendar, years)
        part = (k, slice(len(one.legs)))
        legs.right[part], legs.years[part], legs.volatility[part] = sign, years, implied
        legs.strike[part] = [leg.strike / _DOLLAR for leg in one.legs]
        legs.quantity[part] = [leg.quantity for leg in one.legs]
        legs.mid[part] = [(leg.bid + leg.ask) / 2 / _DOLLAR for leg in one.legs]
        legs.half_spread[part] = [(leg.ask - leg.bid) / 2 / _DOLLAR for leg in one.legs]
        weights = np.abs([_or_nan(leg.vega) for leg in one.legs])
        volatility[k] = np.average(implied, weights=weights) if weights.sum() > 0 else implied.mean()
        # a year on the clock of variance is as long in money as on the calendar's: interest keeps its total
        stretch = calendar.max() / years.max() if years.max() > 0 else np.nan
        rate[k], dividends[k] = one.rate * stretch, one.dividend_yield * stretch
        spot[k], capital[k], fees[k] = one.spot, one.entry.capital / _DOLLAR, one.entry.fees / _DOLLAR
        touch[k] = one.entry.touch / _DOLLAR
        target[k] = touch[k] + one.barriers.target * capital[k]
        stop[k] = touch[k] + one.barriers.stop * capital[k]
        horizon[k] = session_years(sessions, one.at_ns, one.barriers.time_ns)
    found = first_barrier(
        legs, Terms(target, stop, horizon), spot, volatility, rate, dividends, interval=minute_years(sessions)
    )

    def net(value: Floats) -> Floats:
        return np.asarray((value - touch - fees) / capital)

    return FairOdds(
        found.target,
        found.stop,
        found.timeout,
        net(found.at_target),
        net(found.at_stop),
        net(found.at_timeout),
        net(found.expected),
    )


def believed(fair: FairOdds, k: int, record: TrackRecord) -> Odds | None:
    """Position ``k`` of ``fair`` with what is known of its strategy; None where the fair odds are not known."""
    prior = np.array([fair.target[k], fair.stop[k], fair.timeout[k]])
    brings = np.array([fair.at_target[k], fair.at_stop[k], fair.at_timeout[k]])
    if not np.isfinite(prior).all() or not np.isfinite(fair.expected[k]):
        return None
    counts, means = np.array(record.counts, np.float64), np.array(record.means)
    weight = PRIOR * prior
    total = PRIOR + counts.sum()
    share = (weight + counts) / total
    known = np.where(np.isfinite(brings), brings, 0.0)  # what cannot happen brings nothing
    value = (weight * known + counts * means) / np.maximum(weight + counts, 1e-12)
    mean = float(share @ value)
    deviation = float(np.sqrt(max(share @ value**2 - mean**2, 0.0) / (total + 1.0)))
    p_target, p_stop = float(share[0]), float(share[1])
    null_target, null_stop = float(prior[0]), float(prior[1])
    return Odds(
        p_target=p_target,
        p_stop=p_stop,
        p_timeout=max(0.0, 1.0 - p_target - p_stop),
        p_null=null_target,
        p_null_stop=null_stop,
        p_null_timeout=max(0.0, 1.0 - null_target - null_stop),
        fair_value_pct=float(fair.expected[k]),
        expected_value_pct=mean,
        expected_value_low=mean - _INTERVAL * deviation,
        expected_value_high=mean + _INTERVAL * deviation,
        resolved=record.resolved,
        method=f"lattice of the legs' implied volatilities, {IN_HOURS:.0%} of a session's variance in its hours where "
        f"the exchange closes; Dirichlet posterior with the fair odds as {PRIOR:g} outcomes",
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value

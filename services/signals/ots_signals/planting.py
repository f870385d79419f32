"""Plants an edge into a fair market: after a strategy's events the spot drifts its way, and options do not know it.

Options keep the price that they would have without the drift, so whoever buys at the event expects more than what is
paid. How much drift gives a wanted net return is found by trying (`calibrate`), on seeds of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ots_market.timeframes import MINUTE_NS
from ots_signals.fair_market import FairMarket
from ots_signals.market_view import Floats
from ots_signals.strategies.base import Strategy


@dataclass(frozen=True)
class Calibration:
    """A drift, and the mean net return at touch that it gave with its standard error (by seed) over ``signals``."""

    drift: float
    mean_net: float
    standard_error: float
    signals: int


def plant(market: FairMarket, strategy: Strategy, drift: float) -> FairMarket:
    """The market with a drift after each of the strategy's events, in its direction, while the strategy would hold.

    ``drift``: of the logarithm of the spot over the whole holding time, in its standard deviations over that time; what
    was moved stays moved. The strategy must look at its own session alone and act once in it, because its events are
    read off the path before anything was planted. Raises ValueError for another.
    """
    parameters = strategy.parameters
    if parameters.most_a_session != 1 or strategy.history_sessions > 1:
        raise ValueError(f"{strategy.id} looks beyond its session or acts more than once in it")
    spot, calendar = market.spot, market.sessions
    moved = np.zeros(spot.close.shape)
    for u, underlying in enumerate(market.underlyings):
        for session in market.trading_dates:
            d = market.session_index(session)
            close, opened = int(market.closes[d]), int(market.opens[d])
            bars = market.bars(underlying, strategy.timeframe, session, strategy.history_sessions, close)
            found = strategy.triggers(bars, market.daily_volatility(underlying, opened), calendar)
            for i in np.flatnonzero((found != 0) & (bars.starts >= opened)).tolist():
                begin = int(bars.known_at[i] - opened) // MINUTE_NS
                end = min(begin + parameters.time_stop_minutes, int(market.lengths[d]))
                if end > begin:
                    variance = np.diff(spot.variance[u, d, begin - 1 : end])
                    whole = variance.sum()
                    moved[u, d, begin:end] += int(found[i]) * drift * np.sqrt(whole) * variance / whole
    return market.with_spot(replace(spot, **_moved(market, moved)))


def calibrate(
    mean_net: Callable[[float], Sequence[tuple[float, int]]], wanted: float, *, tolerance: float = 0.0005
) -> Calibration:
    """The drift whose mean net return is ``wanted``. ``mean_net``: of a drift, (mean, signals) of each seed.

    By regula falsi between no drift and three standard deviations, on the same seeds each time.
    """
    low, high = 0.0, 3.0
    found = {drift: _mean(mean_net(drift)) for drift in (low, high)}
    if not found[low].mean_net < wanted < found[high].mean_net:
        raise ValueError(f"no drift up to {high:g} standard deviations gives {wanted:.1%}")
    drift = low
    for _ in range(12):
        a, b = found[low].mean_net, found[high].mean_net
        drift = low + (wanted - a) / (b - a) * (high - low)
        found[drift] = _mean(mean_net(drift), drift)
        if abs(found[drift].mean_net - wanted) < tolerance:
            break
        low, high = (drift, high) if found[drift].mean_net < wanted else (low, drift)
    return found[drift]


def _mean(by_seed: Sequence[tuple[float, int]], drift: float = 0.0) -> Calibration:
    means, signals = np.array([mean for mean, _ in by_seed]), np.array([n for _, n in by_seed])
    mean = float(np.average(means, weights=signals))
    error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    return Calibration(drift, mean, error, int(signals.sum()))


def _moved(market: FairMarket, moved: Floats) -> dict[str, Floats]:
    """The prices after the moves (underlyings, sessions, minutes) of the logarithm, which add up over all sessions."""
    spot = market.spot
    total = np.cumsum(moved.reshape(len(moved), -1), axis=1).reshape(moved.shape)
    before = np.concatenate([np.zeros((len(moved), 1)), total[:, :-1, -1]], axis=1)
    open_, close = spot.open * np.exp(before), spot.close * np.exp(total)
    started = np.concatenate([open_[:, :, None], close[:, :, :-1]], axis=2)
    return {
        "open": open_,
        "close": close,
        "high": np.maximum(spot.high * np.exp(total), np.maximum(started, close)),
        "low": np.minimum(spot.low * np.exp(total), np.minimum(started, close)),
    }

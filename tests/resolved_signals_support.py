"""Signals on tapes of a few minutes, and arrays of resolved signals, for tests of what became of them."""

from dataclasses import replace

import numpy as np

from ots_market.sessions import xnys
from ots_market.timeframes import MINUTE_NS
from ots_quant import european
from ots_signals.decisions import Barriers, Entry, Leg, Mode, Odds, Signal
from ots_signals.market_view import Tape
from ots_signals.outcomes import ResolvedSignals

DOLLAR = 1_000_000_000
DAY = "2026-06-10"
EXPIRATION = "2026-06-26"
SESSIONS = xnys()
_INDEX = int(np.searchsorted(SESSIONS.dates, np.datetime64(DAY)))
OPEN_NS, CLOSE_NS = int(SESSIONS.opens[_INDEX]), int(SESSIONS.closes[_INDEX])
EVENT_NS = OPEN_NS + 60 * MINUTE_NS


def leg(bid, ask, *, strike=100.0, right="C", quantity=1, expiration=EXPIRATION):
    """A leg quoted in dollars."""
    symbol = f"XYZ{expiration[2:4]}{expiration[5:7]}{expiration[8:]}{right}{round(strike * 1000):08d}"
    return Leg(
        symbol, right, round(strike * DOLLAR), expiration, quantity, round(bid * DOLLAR), round(ask * DOLLAR),
        10, 10, 0, 0.3, 0.5 if right == "C" else -0.5, 0.05, -20.0, 10.0,
    )  # fmt: skip


def signal(*legs, target=0.1, stop=-0.2, minutes=10, fees=0.0, capital=None, at_ns=EVENT_NS, **changes):
    """A signal on these legs, entered at their quotes; ``capital`` and ``fees`` in dollars."""
    legs = legs or (leg(1.9, 2.0),)
    touch = sum(one.quantity * (one.ask if one.quantity > 0 else one.bid) for one in legs)
    half = sum(abs(one.quantity) * (one.ask - one.bid) for one in legs) / 2
    held = touch if capital is None else round(capital * DOLLAR)
    paid = round(fees * DOLLAR)
    entry = Entry(
        touch, round(touch - 0.25 * half), round(touch - half), paid, held, 2 * half / held, (2 * half + paid) / held
    )
    made = Signal(
        id="0" * 8, strategy="s", strategy_version="1", code_version="0", parameters={}, parameters_hash="",
        mode=Mode.LIVE, source="made up", underlying="XYZ", timeframe="1m", event_ns=at_ns, session=DAY, direction=1,
        features={}, features_hash="", quality={}, regime={}, reasons=(), legs=tuple(legs), entry=entry,
        barriers=Barriers(target, stop, at_ns + minutes * MINUTE_NS, CLOSE_NS - 10 * MINUTE_NS),
        odds=Odds(0.6, 0.3, 0.1, 0.55, 0.35, 0.1, -0.03, -0.03, -0.1, 0.05, 0, "lattice"),
        underlying_price=100.0, days_to_expiration=16.2, invalidation="",
    )  # fmt: skip
    return replace(made, **changes)


def tape(bids, asks, *, symbols=None, gap=(), spot=None, complete=True, start_ns=EVENT_NS, lows=None, highs=None):
    """Quotes in dollars minute by minute after the start, a row a contract; None: no valid quote."""
    bid, ask = (
        np.array([[0 if x is None else round(x * DOLLAR) for x in row] for row in rows], np.int64)
        for rows in (bids, asks)
    )
    minutes = bid.shape[1]
    low = bid if lows is None else np.array([[round(x * DOLLAR) for x in row] for row in lows], np.int64)
    high = bid if highs is None else np.array([[round(x * DOLLAR) for x in row] for row in highs], np.int64)
    return Tape(
        "XYZ",
        np.array(symbols or [leg(1, 1).symbol]),
        start_ns + MINUTE_NS * np.arange(1, minutes + 1),
        bid,
        ask,
        low,
        high,
        ask if lows is None else np.maximum(ask, low),
        ask if highs is None else np.maximum(ask, high),
        np.zeros(bid.shape, np.int64),
        np.full(minutes, 100.0) if spot is None else np.asarray(spot, np.float64),
        np.isin(np.arange(minutes), gap),
        complete,
    )


def priced_tape(one, spots, *, volatility=0.3, half_spread=0.01):
    """The tape of a signal's legs when the spot goes through ``spots`` (minutes,) and volatility is as given."""
    minutes = len(spots)
    ends = one.event_ns + MINUTE_NS * np.arange(1, minutes + 1)
    bids, asks = [], []
    for held in one.legs:
        close = SESSIONS.closes[np.searchsorted(SESSIONS.dates, np.datetime64(held.expiration))]
        years = (close - ends) / (365 * 1440 * MINUTE_NS)
        mid = european.price(
            1.0 if held.right == "C" else -1.0, spots, held.strike / DOLLAR, years, 0.0, 0.0, volatility
        )
        bids.append(mid - half_spread)
        asks.append(mid + half_spread)
    return tape(bids, asks, symbols=[held.symbol for held in one.legs], spot=spots)


def resolved(net, *, day=None, baseline=0.0, seed=0, **columns):
    """Arrays of signals with these net returns at touch; ``day``: a number for each, one signal a day by default."""
    net = np.asarray(net, np.float64)
    n = len(net)
    rng = np.random.default_rng(seed)
    number = np.arange(n) if day is None else np.asarray(day)
    days = np.datetime64("2025-01-02") + number
    event = (days.astype("datetime64[ns]").astype(np.int64)) + 15 * 3600 * DOLLAR + np.arange(n) * DOLLAR
    hit = net > 0.0
    made = {
        "id": np.array([f"{i:036d}" for i in range(n)]),
        "strategy": np.full(n, "s"),
        "strategy_version": np.full(n, "1"),
        "mode": np.full(n, "live"),
        "underlying": np.full(n, "XYZ"),
        "day": days.astype("datetime64[D]"),
        "hour": np.full(n, 10),
        "days_to_expiration": np.full(n, 7.0),
        "event_ns": event,
        "exit_ns": event + 600 * DOLLAR,
        "barrier": np.where(hit, "target", "stop").astype("U13"),
        "net_touch": net,
        "net_partial": net + 0.005,
        "net_mid": net + 0.02,
        "best": np.maximum(net, 0.01),
        "worst": np.minimum(net, -0.01),
        "p_target": np.full(n, 0.6),
        "p_null": np.full(n, 0.55),
        "fair_value": np.full(n, -0.03),
        "baseline_mean": np.full(n, baseline) + 0.01 * rng.standard_normal(n),
        "baseline_hit_rate": np.full(n, 0.5),
        "percentile": np.full(n, 0.5),
        "shuffled_mean": np.full(n, baseline),
        "stock_return": np.zeros(n),
    }
    return ResolvedSignals(**(made | columns))

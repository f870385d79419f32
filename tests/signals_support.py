"""Decisions and outcomes made field by field, for tests of what is kept of them."""

from __future__ import annotations

from typing import Any

from ots_signals.canonical import digest
from ots_signals.decisions import Abstention, Barriers, Entry, Leg, Mode, Odds, Signal, decision_id
from ots_signals.outcomes import Barrier, FillOutcome, Outcome

MINUTE = 60 * 10**9
SESSION = "2026-11-30"
OPEN = 1_796_049_000 * 10**9  # 2026-11-30T14:30:00Z


def decision_fields(number: int = 1, **more: Any) -> dict[str, Any]:
    """What every decision has; ``number``: of the minute in the session."""
    fields = {
        "strategy": "opening_range",
        "strategy_version": "1",
        "code_version": "0" * 40,
        "parameters": {"minutes": 15, "share": 0.5},
        "parameters_hash": digest({"minutes": 15, "share": 0.5}),
        "mode": Mode.LIVE,
        "source": "simulated",
        "underlying": "AAPL",
        "timeframe": "1m",
        "event_ns": OPEN + number * MINUTE,
        "session": SESSION,
        "direction": 1,
        "features": {"range_high": 187.25, "volume_ratio": None},
        "features_hash": digest({"range_high": 187.25, "volume_ratio": None}),
        "quality": {"gaps": 0, "source": "simulated"},
        "regime": {"trend": "up", "realised_volatility": 0.21},
        "reasons": ("the range of the first 15 minutes was left upwards",),
    }
    fields.update(more)
    own = decision_id(
        fields["strategy"], fields["strategy_version"], fields["parameters_hash"], fields["underlying"],
        fields["event_ns"], fields["mode"],
    )  # fmt: skip
    return {"id": own, **fields}


def signal(number: int = 1, **more: Any) -> Signal:
    """A bought call."""
    fields = decision_fields(number, **more)
    leg = Leg(
        symbol="AAPL261204C00187500", right="C", strike=187_500_000_000, expiration="2026-12-04", quantity=1,
        bid=2_100_000_000, ask=2_150_000_000, bid_size=40, ask_size=35, quote_age_ns=800_000_000,
        implied_volatility=0.31, delta=0.48, gamma=0.05, theta=-0.2, vega=0.09,
    )  # fmt: skip
    return Signal(
        **fields,
        legs=(leg,),
        entry=Entry(2_150_000_000, 2_143_750_000, 2_125_000_000, 13_000_000, 2_163_000_000, 0.0231, 0.0291),
        barriers=Barriers(0.075, -0.3, fields["event_ns"] + 60 * MINUTE, OPEN + 380 * MINUTE),
        odds=Odds(0.61, 0.2, 0.19, 0.62, 0.2, 0.18, -0.03, -0.028, -0.05, -0.006, 0, "lattice"),
        underlying_price=187.31,
        days_to_expiration=4.3,
        invalidation="a close back inside the range",
    )


def abstention(number: int = 1, **more: Any) -> Abstention:
    """One whose spread was too wide."""
    return Abstention(
        **decision_fields(number, **more), why="spread_too_wide", detail="the narrowest is 9.1 %, and 5 % are allowed"
    )


def outcome(of: Signal, revision: int = 0, *, net: float = 0.075, barrier: Barrier = Barrier.TARGET) -> Outcome:
    """That of a signal, the same in all fill models."""
    end = of.event_ns + 20 * MINUTE
    fills = tuple(
        FillOutcome(
            model=model, barrier=barrier, exit_ns=end, exit_price=2_300_000_000, net_return=net,
            best_return=max(net, 0.0), worst_return=min(net, -0.02),
        )
        for model in ("touch", "partial", "mid")
    )  # fmt: skip
    return Outcome(
        signal_id=of.id, revision=revision, resolved_of_ns=end, fills=fills, attribution=None, baseline=None,
        gap_minutes=0, data_digest=digest(["tape", revision]), detail="",
    )  # fmt: skip

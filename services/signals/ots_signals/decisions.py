"""What a strategy decides: a signal with all that was known and assumed, or an abstention with its reason.

Both are plain values. Their canonical JSON (`ots_signals.canonical`) is what the ledger hashes, so that every field is
of a type whose JSON is one and the same everywhere: int, str, bool, None, finite float, tuples, mappings with string
keys.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from enum import StrEnum

from ots_signals.canonical import canonical

_MILLISECOND_NS = 1_000_000


class Mode(StrEnum):
    """``live``: decided while the event was new. ``replay``: later, of its event's time. ``backtest``: of no ledger."""

    LIVE = "live"
    REPLAY = "replay"
    BACKTEST = "backtest"


class FillModel(StrEnum):
    """What of the half-spread is paid, in and out."""

    TOUCH = "touch"  # all of it: buy at the ask, sell at the bid
    PARTIAL = "partial"  # 75 %
    MID = "mid"  # nothing: unattainable, a bound


@dataclass(frozen=True)
class Leg:
    """One contract of a position. Prices 1e-9 dollars a share; ``quantity``: +1 bought, -1 sold, contracts.

    ``quote_age_ns``: of the quote at the event's cutoff. Volatility and Greeks in the units of ``ots_quant.greeks``.
    """

    symbol: str
    right: str  # C or P
    strike: int
    expiration: str  # date
    quantity: int
    bid: int
    ask: int
    bid_size: int
    ask_size: int
    quote_age_ns: int
    implied_volatility: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    multiplier: int = 100


@dataclass(frozen=True)
class Barriers:
    """Where a position ends, as returns on ``capital`` (see `Entry`) of the executable value; times ns.

    ``target`` and ``stop``: e.g. 0.075 and -0.30; ``time_ns``: the time stop; ``flat_ns``: when it must be flat at the
    latest.
    """

    target: float
    stop: float
    time_ns: int
    flat_ns: int


@dataclass(frozen=True)
class Entry:
    """The position's price in each fill model, 1e-9 dollars a share: positive paid, negative received; fees too.

    ``fees``: of entry and exit together. ``capital``: what a return is measured against, 1e-9 dollars a share: the
    debit paid at touch, or of a credit the most that can be lost. ``spread_pct``: cost of crossing in and out at once,
    of capital. ``break_even_pct``: how far the mid must move, of capital, for a net of zero (spread and fees).
    """

    touch: int
    partial: int
    mid: int
    fees: int
    capital: int
    spread_pct: float
    break_even_pct: float


@dataclass(frozen=True)
class Odds:
    """Probabilities of the first barrier: three that sum to 1 as believed, three (``p_null``) in a driftless market.

    ``fair_value_pct``: expected net return at touch in that market (below zero by the cost); ``expected_value_pct``
    with its 90 % interval: as believed, from ``resolved`` outcomes of this strategy known at the decision and the fair
    market as the prior.
    """

    p_target: float
    p_stop: float
    p_timeout: float
    p_null: float
    p_null_stop: float
    p_null_timeout: float
    fair_value_pct: float
    expected_value_pct: float
    expected_value_low: float
    expected_value_high: float
    resolved: int
    method: str


@dataclass(frozen=True)
class Decision:
    """What signals and abstentions have in common. ``event_ns``: the cutoff, nothing later was looked at.

    ``id``: see `decision_id`. ``strategy_version``: of its rules; ``code_version``: git sha. ``direction``: +1 up, -1
    down, 0 both ways. ``features``: what the strategy looked at.
    """

    id: str
    strategy: str
    strategy_version: str
    code_version: str
    parameters: dict[str, float | int | str | bool]
    parameters_hash: str
    mode: Mode
    source: str
    underlying: str
    timeframe: str
    event_ns: int
    session: str  # date
    direction: int
    features: dict[str, float | None]
    features_hash: str
    quality: dict[str, float | int | str | bool | None]
    regime: dict[str, float | str | None]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Abstention(Decision):
    """``why``: of a closed set (`Why`); ``detail``: one sentence with the numbers."""

    why: str
    detail: str


class Why(StrEnum):
    """Why a strategy that saw its condition did nothing."""

    SPREAD_TOO_WIDE = "spread_too_wide"
    STALE_QUOTES = "stale_quotes"
    GAP = "gap"
    NO_CONTRACT = "no_contract"
    NO_CHAIN = "no_chain"
    NO_VOLATILITY = "no_volatility"
    NO_EDGE = "no_edge"
    TOO_LATE_IN_SESSION = "too_late_in_session"
    TOO_FEW_BARS = "too_few_bars"
    FAILED = "failed"  # the strategy could not be computed, however often it was tried


@dataclass(frozen=True)
class Signal(Decision):
    """A candidate: what would be bought or sold, at what cost, until when, and with what odds."""

    legs: tuple[Leg, ...]
    entry: Entry
    barriers: Barriers
    odds: Odds
    underlying_price: float
    days_to_expiration: float
    invalidation: str


def decision_id(
    strategy: str,
    strategy_version: str,
    parameters_hash: str,
    underlying: str,
    event_ns: int,
    mode: Mode,
    run: str = "",
) -> str:
    """UUIDv7 (RFC 9562) of the event's millisecond whose other bits are a digest of these: the same everywhere.

    Live and replay share their ids: an event is decided once in a ledger, whether at once or after a crash, and by
    whichever build of the code. ``run`` names a backtest, whose decisions are apart.
    """
    where = run if mode is Mode.BACKTEST else "ledger"
    what = canonical([strategy, strategy_version, parameters_hash, underlying, event_ns, where])
    rest = int.from_bytes(hashlib.sha256(what.encode()).digest()[:10], "big")
    bits = (event_ns // _MILLISECOND_NS & (1 << 48) - 1) << 80 | rest
    bits = bits & ~(0xF << 76) | 7 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=bits))

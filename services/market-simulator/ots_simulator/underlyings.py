"""The nine underlyings of the seeded market, and how large their chains are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

RATE = 0.0425  # continuously compounded, of the whole simulated market


@dataclass(frozen=True, slots=True)
class Underlying:
    """One stock or fund, in round figures of its size in the field; nothing here is fitted to data.

    ``price``: dollars on the base day. ``volatility``: a year's, in the long run. ``market``, ``technology``: loadings
    of the standardised return. ``trades_a_second``, ``mean_lots``: of the tape. ``spread``: of the quote, as a share
    of the price. ``option_trades``: a day, laptop size. ``strike_step``: dollars between weekly strikes. ``skew``:
    SSVI's rho. ``daily_expirations``: as SPY and QQQ have them.
    """

    symbol: str
    price: float
    volatility: float
    dividend_yield: float
    market: float
    technology: float
    trades_a_second: float
    mean_lots: float
    spread: float
    option_trades: int
    strike_step: float
    skew: float
    daily_expirations: bool = False


UNDERLYINGS = (
    Underlying("AAPL", 190.0, 0.26, 0.005, 0.62, 0.35, 1.6, 0.8, 0.00006, 14_000, 2.5, -0.35),
    Underlying("GOOGL", 150.0, 0.29, 0.004, 0.58, 0.32, 1.1, 0.8, 0.00009, 9_000, 2.5, -0.35),
    Underlying("MSFT", 390.0, 0.24, 0.007, 0.64, 0.38, 1.1, 0.5, 0.00008, 9_000, 5.0, -0.40),
    Underlying("AMZN", 165.0, 0.31, 0.0, 0.58, 0.34, 1.3, 0.8, 0.00008, 11_000, 2.5, -0.35),
    Underlying("TSLA", 240.0, 0.52, 0.0, 0.45, 0.30, 2.0, 0.9, 0.00012, 20_000, 5.0, -0.20),
    Underlying("NVDA", 130.0, 0.45, 0.0003, 0.52, 0.45, 2.2, 1.5, 0.00009, 20_000, 2.5, -0.30),
    Underlying("META", 480.0, 0.33, 0.004, 0.55, 0.35, 0.9, 0.4, 0.00014, 8_000, 10.0, -0.35),
    Underlying("SPY", 475.0, 0.15, 0.012, 0.97, 0.10, 2.4, 1.8, 0.00002, 26_000, 5.0, -0.60, True),
    Underlying("QQQ", 410.0, 0.20, 0.006, 0.90, 0.35, 1.8, 1.4, 0.00003, 18_000, 5.0, -0.55, True),
)
BY_SYMBOL = {underlying.symbol: underlying for underlying in UNDERLYINGS}


@dataclass(frozen=True, slots=True)
class ChainSize:
    """How many expirations are listed ahead by each rule, and how far strikes reach.

    ``weeklies``: Fridays of those that have no daily expirations; ``weeklies_beside_dailies``: of SPY and QQQ.
    ``steps_each_side``: strikes listed on each side of the day's opening price. ``daily_step``, ``monthly_step``: the
    step between strikes, of the weekly step. ``option_trades``: times the underlying's. ``ids``: how many vendor ids an
    underlying's contracts share from day to day.
    """

    dailies: int
    weeklies: int
    weeklies_beside_dailies: int
    monthlies: int
    steps_each_side: int
    daily_step: float
    monthly_step: float
    option_trades: float
    ids: int


class MarketSize(Enum):
    """``laptop``: about 300 contracts an underlying; ``full``: about 10,000 of SPY."""

    LAPTOP = ChainSize(3, 4, 2, 2, 10, 0.4, 2.0, 1.0, 1024)
    FULL = ChainSize(10, 8, 8, 12, 95, 0.2, 0.4, 8.0, 16_384)

"""The real daily bars beside the checkout, split-adjusted by the real factor files."""

from __future__ import annotations

from pathlib import Path

import databento
import numpy as np
from numpy.typing import NDArray

from ots_quant.patterns import PriceBars, price_bars

SYMBOLS = ("AAPL", "QQQ", "SPY")
DAY_NS = 86_400_000_000_000


def split_factors(real: Path, symbol: str, starts_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """What to multiply each day's price with; LEAN's factor of a row holds up to and including its date."""
    rows = np.loadtxt(real / "factor_files" / f"{symbol.lower()}.csv", delimiter=",", usecols=(0, 2))
    dates = np.array([f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in (f"{row:.0f}" for row in rows[:, 0])], "datetime64[D]")
    days = (starts_ns // DAY_NS).astype("datetime64[D]")
    return rows[np.searchsorted(dates, days, side="left"), 1]


def raw_daily(real: Path, symbol: str) -> tuple[NDArray[np.int64], PriceBars]:
    """Starts (ns since 1970) and bars as they traded, in dollars."""
    rows = databento.DBNStore.from_file(real / "EQUS.MINI" / "daily" / f"{symbol}.ohlcv-1d.dbn.zst").to_ndarray()
    prices = [rows[name] / 1e9 for name in ("open", "high", "low", "close")]
    return rows["ts_event"].astype(np.int64), price_bars(*prices, rows["volume"].astype(np.float64))


def adjusted_daily(real: Path, symbol: str) -> tuple[NDArray[np.int64], PriceBars]:
    """Starts and bars, adjusted for splits (not for dividends)."""
    starts, raw = raw_daily(real, symbol)
    factors = split_factors(real, symbol, starts)
    prices = [getattr(raw, name) * factors for name in ("open", "high", "low", "close")]
    return starts, price_bars(*prices, raw.volume / factors)

"""The real GOOG chain of 2015-12-24 (a half day) as arrays: what was quoted at a moment, and the underlying then."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import databento
import exchange_calendars
import numpy as np
from numpy.typing import NDArray

NEW_YORK = ZoneInfo("America/New_York")
ELEVEN = datetime(2015, 12, 24, 11, 0, tzinfo=NEW_YORK)

_NANOSECONDS_A_YEAR = 365 * 24 * 3600 * 1e9
_UNDEFINED = np.iinfo(np.int64).max


class RealChain(NamedTuple):
    """Contracts with the last quote of each, arrays of shape (contracts,); a missing side or quote is NaN."""

    spot: float
    right: NDArray[np.float64]  # +1 call, -1 put
    strike: NDArray[np.float64]  # dollars
    years: NDArray[np.float64]  # to the session close of the expiration date, in years of 365 days
    bid: NDArray[np.float64]
    ask: NDArray[np.float64]
    open_interest: NDArray[np.float64]  # NaN where not published
    expiration: NDArray[np.datetime64]  # the date
    symbol: NDArray[np.str_]
    quoted_at: NDArray[np.datetime64]  # end of the minute that the quote stands for, NaT without a quote

    def where(self, chosen: NDArray[np.bool_]) -> RealChain:
        """The contracts chosen by a mask."""
        return self._replace(
            **{name: getattr(self, name)[chosen] for name in self._fields if name != "spot"},
        )


def real_chain(real_data: Path, at: datetime = ELEVEN) -> RealChain:
    """The chain as it was known at ``at``: every contract not expired by then, and the underlying's last close."""
    folder = real_data / "OPRA.PILLAR" / "GOOG-2015-12-24"
    now = np.int64(round(at.timestamp() * 1e9))
    definition = databento.DBNStore.from_file(folder / "definition.dbn.zst").to_ndarray()
    definition = definition[np.argsort(definition["instrument_id"])]
    expiration = definition["expiration"].astype("datetime64[ns]").astype("datetime64[D]")
    years = (_session_closes(expiration) - now) / _NANOSECONDS_A_YEAR

    quotes = databento.DBNStore.from_file(folder / "cbbo-1m.dbn.zst").to_ndarray()
    quotes = quotes[quotes["ts_recv"] <= now]
    last = _last_of_each(quotes, definition["instrument_id"])
    bid, ask = (np.where(last >= 0, _dollars(quotes[side][last]), np.nan) for side in ("bid_px_00", "ask_px_00"))
    quoted_at = quotes["ts_recv"][last].astype("datetime64[ns]")
    quoted_at[last < 0] = np.datetime64("NaT")

    chain = RealChain(
        spot=_spot(real_data, now),
        right=np.where(definition["instrument_class"] == b"C", 1.0, -1.0),
        strike=_dollars(definition["strike_price"]),
        years=years,
        bid=bid,
        ask=ask,
        open_interest=_open_interest(folder, definition["instrument_id"], now),
        expiration=expiration,
        symbol=np.char.decode(definition["raw_symbol"]),
        quoted_at=quoted_at,
    )
    return chain.where(years > 0)


def _session_closes(dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    calendar = exchange_calendars.get_calendar("XNYS", start="2015-12-01", end="2018-12-31")
    unique, inverse = np.unique(dates, return_inverse=True)
    closes = [calendar.session_close(calendar.date_to_session(str(date), "previous")).value for date in unique]
    return np.array(closes, np.int64)[inverse]


def _last_of_each(quotes: NDArray[np.void], instruments: NDArray[np.uint32]) -> NDArray[np.intp]:
    """The row of the latest quote of each instrument, -1 where there is none."""
    order = np.lexsort((quotes["ts_recv"], quotes["instrument_id"]))
    position = np.searchsorted(quotes["instrument_id"][order], instruments, side="right") - 1
    last = order[np.maximum(position, 0)]
    return np.where((position >= 0) & (quotes["instrument_id"][last] == instruments), last, -1)


def _open_interest(folder: Path, instruments: NDArray[np.uint32], now: np.int64) -> NDArray[np.float64]:
    """Stat type 9; each publisher repeats the same value, so the last one stands, not their sum."""
    records = databento.DBNStore.from_file(folder / "statistics.dbn.zst").to_ndarray()
    records = records[(records["stat_type"] == 9) & (records["ts_recv"] <= now)]
    last = _last_of_each(records, instruments)
    return np.where(last >= 0, records["quantity"][last].astype(np.float64), np.nan)


def _spot(real_data: Path, now: np.int64) -> float:
    """The close of the last minute that had ended: a bar is stamped with its start."""
    bars = databento.DBNStore.from_file(real_data / "EQUS.MINI" / "GOOG-2015-12-24" / "ohlcv-1m.dbn.zst").to_ndarray()
    minute = int(timedelta(minutes=1).total_seconds() * 1e9)
    ended = bars[bars["ts_event"].astype(np.int64) + minute <= now]
    return float(_dollars(ended["close"][np.argmax(ended["ts_event"])]))


def _dollars(fixed_point: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(fixed_point == _UNDEFINED, np.nan, fixed_point / 1e9)

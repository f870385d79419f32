"""With the exchange's calendar the seeded market keeps its hours: half days, holidays, daylight saving."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import numpy as np
import pytest

from ots_market.symbols import parse_option_symbol
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, SCHEMAS, SECOND, ask, day_number, make_market

HALF_DAY = day_number(date(2025, 11, 28))  # the day after Thanksgiving: 13:00 New York, 18:00 UTC
THANKSGIVING = HALF_DAY - 1
SUMMER = day_number(date(2025, 7, 8))
GOOD_FRIDAY = day_number(date(2025, 4, 18))


@pytest.fixture(scope="module")
def market():
    return make_market(calendar="xnys", now=day_number(date(2026, 1, 31)) * DAY)


def hours(market, dataset: str, schema: str, day: int) -> tuple[int, int]:
    records = ask(
        market, dataset, schema, day * DAY, (day + 1) * DAY, None if dataset == EQUITIES else names(market, day)
    )
    times = records["ts_event" if schema.startswith("ohlcv") else "ts_recv"].astype(np.int64) - day * DAY
    return int(times[0]), int(times[-1])


def names(market, day: int) -> set[str]:
    return set(market.chains.chain("AAPL", day).raw_symbols[:40])


@pytest.mark.parametrize(
    ("day", "opened", "closed"),
    [
        (HALF_DAY, 14 * HOUR + 30 * MINUTE, 18 * HOUR),
        (HALF_DAY - 2, 14 * HOUR + 30 * MINUTE, 21 * HOUR),
        (SUMMER, 13 * HOUR + 30 * MINUTE, 20 * HOUR),
    ],
)
def test_everything_happens_in_the_sessions_hours(market, day: int, opened: int, closed: int):
    for dataset, schema in [(EQUITIES, "trades"), (EQUITIES, "bbo-1s"), (EQUITIES, "bbo-1m"), (OPTIONS, "cbbo-1m")]:
        first, last = hours(market, dataset, schema, day)
        assert opened <= first < opened + 2 * MINUTE
        assert closed - 2 * MINUTE < last <= closed
    bars = ask(market, EQUITIES, "ohlcv-1m", day * DAY, (day + 1) * DAY, ["SPY"])
    assert len(bars) == (closed - opened) // MINUTE
    closing = ask(market, OPTIONS, "cbbo-1m", day * DAY + closed, day * DAY + closed + 1)
    assert len(closing) == sum(len(market.chains.chain(s, day).strike) for s in market.chains._salts)
    # definitions and open interest are known before the open
    for schema in ("definition", "statistics"):
        times = ask(market, OPTIONS, schema, day * DAY, (day + 1) * DAY)["ts_recv"].astype(np.int64)
        assert np.all(times < day * DAY + opened)


@pytest.mark.parametrize("day", [THANKSGIVING, GOOD_FRIDAY, HALF_DAY + 1])
def test_nothing_happens_on_holidays_and_weekends(market, day: int):
    for dataset, schema in SCHEMAS:
        assert len(ask(market, dataset, schema, day * DAY, (day + 1) * DAY)) == 0
    assert market.resolve(OPTIONS, ["AAPL.OPT"], "parent", day, day + 1) == []
    with pytest.raises(LookupError):
        market.true.spot("AAPL", day * DAY + 15 * HOUR)


def test_options_of_a_half_day_expire_at_its_close(market):
    chain = market.chains.chain("AAPL", HALF_DAY)
    mine = chain.expiration == HALF_DAY
    assert mine.any()
    assert set(chain.closes_ns[mine].tolist()) == {HALF_DAY * DAY + 18 * HOUR}
    expiring = next(s for s, yes in zip(chain.raw_symbols, mine, strict=True) if yes)
    assert market.true.contract(expiring, HALF_DAY * DAY + 17 * HOUR).years == pytest.approx(1 / 24 / 365)


def test_a_holiday_friday_expires_the_day_before(market):
    found = {parse_option_symbol(s).expiration for s in market.chains.chain("MSFT", GOOD_FRIDAY - 4).raw_symbols}
    assert date(2025, 4, 17) in found
    assert date(2025, 4, 18) not in found


def test_daily_bars_are_the_sessions(market):
    bars = ask(market, EQUITIES, "ohlcv-1d", (HALF_DAY - 10) * DAY, (HALF_DAY + 5) * DAY, ["QQQ"])
    days = (bars["ts_event"] // DAY).tolist()
    assert THANKSGIVING not in days
    assert HALF_DAY in days
    assert len(days) == 10
    trades = ask(market, EQUITIES, "trades", HALF_DAY * DAY, (HALF_DAY + 1) * DAY, ["QQQ"])
    (bar,) = bars[bars["ts_event"] // DAY == HALF_DAY]
    prices = trades["price"]
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (
        prices[0],
        prices.max(),
        prices.min(),
        prices[-1],
    )
    assert bar["volume"] == trades["size"].sum()


def test_prices_jump_over_night_as_much_as_the_model_says(market):
    daily = market.paths.daily
    gaps = daily.open_log[1:400] - daily.close_log[:399]
    share = np.var(gaps, axis=0) / (np.var(gaps, axis=0) + np.mean(daily.deviation[:399] ** 2, axis=0))
    assert np.all((share > 0.1) & (share < 0.32))


def test_splitting_at_the_sessions_borders_loses_nothing(market):
    day, opened, closed = HALF_DAY, 14 * HOUR + 30 * MINUTE, 18 * HOUR
    borders = [day * DAY + at for at in (0, opened, opened + SECOND, 15 * HOUR, closed - 1, closed, closed + 1, DAY)]
    for dataset, schema in [(EQUITIES, "bbo-1s"), (EQUITIES, "trades"), (OPTIONS, "cbbo-1m"), (OPTIONS, "tcbbo")]:
        who = ["TSLA"] if dataset == EQUITIES else names(market, day)
        pieces = [ask(market, dataset, schema, a, b, who).tobytes() for a, b in pairwise(borders)]
        assert b"".join(pieces) == ask(market, dataset, schema, day * DAY, (day + 1) * DAY, who).tobytes()

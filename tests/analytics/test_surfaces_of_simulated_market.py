"""Readings of the seeded market's chain, whose true volatilities are known, as an afternoon goes on."""

from __future__ import annotations

import numpy as np
import pytest

from analytics_support import Analytics
from data_ingestion_support import Ingestion, settings_for
from ots_common.times import rfc3339
from ots_market.symbols import parse_option_symbol
from ots_simulator.underlyings import RATE
from priced_chain_support import check_finite
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, TODAY, make_market
from volatility_support import import_records

AT = TODAY * DAY + 18 * HOUR
READINGS = ("surface", "skew", "term-structure", "expected-move", "exposure", "open-interest")


@pytest.fixture(scope="module")
def seeded():
    return make_market()


@pytest.fixture(scope="module")
def ingestion(market, redis_server, tmp_path_factory):
    spool = tmp_path_factory.mktemp("spool")
    service = Ingestion(settings_for(market, redis_server, spool, market_calendar="around-the-clock"))
    with service.working():
        yield service


@pytest.fixture(scope="module")
def stored(market, ingestion, seeded):
    for schema in ("definition", "statistics"):
        import_records(ingestion, seeded, OPTIONS, schema, TODAY, TODAY * DAY, TODAY * DAY + HOUR, ["SPY"])
    import_minutes(ingestion, seeded, AT - 3 * MINUTE, AT)
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2026-03-10', 'flat', '2026-03-10', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, %s, 'continuous')", (cursor.fetchone()[0], RATE))
    return market


def import_minutes(ingestion, seeded, start, end):
    import_records(ingestion, seeded, EQUITIES, "ohlcv-1m", TODAY, start, end, ["SPY"])
    # sampled quotes are stamped with the end of their minute
    import_records(ingestion, seeded, OPTIONS, "cbbo-1m", TODAY, start, end + 1, ["SPY"])


@pytest.fixture(scope="module")
def service(stored):
    return Analytics(stored, market_calendar="around-the-clock", market_source="simulated")


def ask(service, reading, at=AT):
    answer = service.get(f"/options/SPY/{reading}?as_of={rfc3339(at)}")
    check_finite(answer)
    return answer


def test_the_surface_is_near_the_truth_and_free_of_arbitrage(service, seeded):
    answer = ask(service, "surface")
    assert answer["source"] == "simulated"
    certificate = answer["certificate"]
    assert certificate["arbitrage_free_inside"] is True
    assert certificate["share_within_spread"] > 0.95
    errors = []
    for row in answer["expirations"]:
        names = [
            name
            for name in seeded.chains.chain("SPY", TODAY).raw_symbols
            if (option := parse_option_symbol(name)) and option.expiration.isoformat() == row["expiration"]
        ]
        strikes = np.array([parse_option_symbol(name).strike / 1e9 for name in names])
        nearest = int(np.argmin(np.abs(strikes - row["forward"])))
        k = np.log(strikes[nearest] / row["forward"])
        a, b, rho, m, sigma = (row[f"svi_{name}"] for name in ("a", "b", "rho", "m", "sigma"))
        fitted = np.sqrt((a + b * (rho * (k - m) + np.hypot(k - m, sigma))) / row["years"])
        errors.append(fitted - seeded.true.contract(names[nearest], AT - 1).implied_volatility)
    assert len(errors) >= 5
    assert np.abs(errors).max() < 0.01


def test_every_reading_answers(service):
    for reading in READINGS:
        answer = ask(service, reading)
        assert answer["rate"]["kind"] == "curve"
        (table,) = (value for key, value in answer.items() if isinstance(value, list) and key != "constant_maturities")
        assert table
    moves = ask(service, "expected-move")["expirations"]
    assert all(row["straddle_bid"] < row["straddle_ask"] for row in moves)
    # farther in time moves are wider
    assert np.all(np.diff([row["flat_mean_absolute"] for row in moves]) > 0)
    open_interest = ask(service, "open-interest")["open_interest"]
    assert open_interest["date"] == "2026-03-10"
    assert open_interest["contracts_without"] == 0
    totals = ask(service, "exposure")["totals"]
    assert totals["least"]["gamma"] == -totals["greatest"]["gamma"] < 0


def test_what_comes_later_changes_no_answer_of_before(stored, ingestion, seeded, service):
    before = {reading: ask(service, reading) for reading in READINGS}
    import_minutes(ingestion, seeded, AT, AT + 2 * MINUTE)
    import_records(
        ingestion, seeded, OPTIONS, "statistics", TODAY + 1, (TODAY + 1) * DAY, (TODAY + 1) * DAY + HOUR, ["SPY"]
    )
    anew = Analytics(stored, market_calendar="around-the-clock", market_source="simulated", history_bars=1000)
    for reading in READINGS:
        assert ask(anew, reading) == before[reading]
        later = ask(anew, reading, AT + 2 * MINUTE)
        assert later["newest_input"] > before[reading]["newest_input"]
    assert ask(anew, "surface", AT + 2 * MINUTE)["expirations"] != before["surface"]["expirations"]

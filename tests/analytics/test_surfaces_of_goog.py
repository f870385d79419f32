"""The real half day of GOOG at 11:00 New York through HTTP, against the mathematics on the files themselves."""

from __future__ import annotations

import numpy as np
import pytest

from analytics_support import Analytics
from data_ingestion_support import Ingestion, settings_for
from ots_quant import american
from ots_quant.density import straddle_move
from ots_quant.exposure import Contracts, DealerSide, exposure, exposure_band, max_pain, put_call_ratio, zero_gamma
from ots_quant.parity import implied_forwards
from ots_quant.surface import fit_surface
from priced_chain_support import check_finite
from quant.real_chain import real_chain

FILES = [
    "OPRA.PILLAR/GOOG-2015-12-24/definition.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/statistics.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/cbbo-1m.dbn.zst",
    "EQUS.MINI/GOOG-2015-12-24/ohlcv-1m.dbn.zst",
]
RATE = 0.003
AT = "as_of=2015-12-24T16:00:00Z"
QUOTES_COUNT = np.timedelta64(900, "s")
ELEVEN = np.datetime64("2015-12-24T16:00:00")


@pytest.fixture(scope="module")
def goog(market, redis_server, tmp_path_factory, real_data):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for file in FILES:
            service.imported((real_data / file).read_bytes())
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2015-12-23', 'flat', '2015-12-23', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, %s, 'continuous')", (cursor.fetchone()[0], RATE))
    return market


@pytest.fixture(scope="module")
def service(goog):
    return Analytics(goog, market_calendar="xnys", market_source="databento")


@pytest.fixture(scope="module")
def ask(service):
    def get(reading, query=""):
        answer = service.get(f"/options/GOOG/{reading}?{AT}&{query}")
        check_finite(answer)
        assert (answer["underlying"], answer["as_of"], answer["source"]) == (
            "GOOG", "2015-12-24T16:00:00Z", "databento",
        )  # fmt: skip
        return answer

    return get


@pytest.fixture(scope="module")
def chain(real_data):
    """The files' own quotes; one older than a quarter of an hour counts as none."""
    found = real_chain(real_data)
    fresh = found.quoted_at >= ELEVEN - QUOTES_COUNT
    return found._replace(bid=np.where(fresh, found.bid, np.nan), ask=np.where(fresh, found.ask, np.nan))


@pytest.fixture(scope="module")
def carry(chain):
    return implied_forwards(
        chain.right, chain.strike, chain.years, chain.bid, chain.ask, chain.spot, rate=RATE
    ).carry_of(chain.years)


@pytest.fixture(scope="module")
def surface(chain, carry):
    return fit_surface(
        chain.right, chain.strike, chain.years, chain.bid, chain.ask, chain.spot, carry.forward, carry.rate
    )


@pytest.fixture(scope="module")
def volatility(chain, carry):
    with np.errstate(invalid="ignore"):
        two_sided = (chain.bid > 0) & (chain.ask >= chain.bid)
    mid = np.where(two_sided, (chain.bid + chain.ask) / 2, np.nan)
    return american.implied_volatility(
        mid, chain.right, chain.spot, chain.strike, chain.years, carry.rate, carry.dividend_yield
    )


def test_the_surface_of_the_real_day_is_free_of_arbitrage(ask, surface):
    answer = ask("surface")
    certificate = answer["certificate"]
    assert certificate["arbitrage_free_inside"] is True
    for kind in ("butterfly", "calendar", "between"):
        assert certificate[kind]["inside"]["failing"] == 0
        assert certificate[kind]["inside"]["points"] > 4000
    assert certificate["contracts_used"] == surface.certificate.contracts_used == 609
    assert certificate["share_within_spread"] > 0.98
    assert certificate["rms_volatility"] == pytest.approx(surface.certificate.rms_volatility, rel=1e-6)
    assert certificate["rms_volatility"] == pytest.approx(0.0049, abs=2e-4)
    assert len(answer["expirations"]) == 12
    assert [row["years"] for row in answer["expirations"]] == pytest.approx(surface.years)
    for name, values in surface.slices._asdict().items():
        assert [row[f"svi_{name}"] for row in answer["expirations"]] == pytest.approx(values, rel=1e-6, abs=1e-9)
    assert [row["forward"] for row in answer["expirations"]] == pytest.approx(surface.forward)
    # two hours to live, and two strikes that tell: its smile is lent
    assert answer["expirations"][0]["shape"] == "borrowed"
    assert [row["shape"] for row in answer["expirations"][1:]] == ["fitted"] * 11


def test_at_the_money_stands_what_is_known_of_that_day(ask):
    rows = {row["expiration"]: row for row in ask("term-structure")["expirations"]}
    assert rows["2015-12-31"]["at_the_money"] == pytest.approx((0.163 + 0.161) / 2, abs=0.006)
    assert rows["2016-01-15"]["at_the_money"] == pytest.approx((0.189 + 0.188) / 2, abs=0.006)
    assert all(row["forward_volatility"] > 0 for row in rows.values())


def test_readings_are_those_of_the_surface(ask, surface):
    for row, years in zip(ask("skew")["expirations"], surface.years, strict=True):
        for size in (25, 10):
            expected = surface.risk_reversal(years, size / 100)
            if row[f"risk_reversal_{size}_delta"] is None:
                assert f"{size} delta" in row["reason"]
            else:
                assert row[f"risk_reversal_{size}_delta"] == pytest.approx(float(expected), abs=1e-6)
                assert expected < 0  # puts are dearer
        assert row["slope"] == pytest.approx(float(surface.skew(years)), rel=1e-4)
    term = surface.term_structure()
    rows = ask("term-structure")["expirations"]
    assert [row["at_the_money"] for row in rows] == pytest.approx(term.volatility, rel=1e-6)
    assert [row["forward_volatility"] for row in rows] == pytest.approx(term.forward_volatility, rel=1e-5)


def test_straddles_are_those_that_can_be_traded(ask, chain, surface):
    for row, years, forward in zip(ask("expected-move")["expirations"], surface.years, surface.forward, strict=True):
        with np.errstate(invalid="ignore"):
            own = (chain.years == years) & (chain.bid > 0) & (chain.ask >= chain.bid)
        both = np.intersect1d(chain.strike[own & (chain.right > 0)], chain.strike[own & (chain.right < 0)])
        strike = both[np.argmin(np.abs(both - forward))]
        legs = own & (chain.strike == strike)
        assert (row["straddle_strike"], legs.sum()) == (strike, 2)
        assert row["straddle_bid"] == pytest.approx(chain.bid[legs].sum())
        assert row["straddle_ask"] == pytest.approx(chain.ask[legs].sum())
        middle = straddle_move(*((chain.bid + chain.ask) / 2)[legs], years, RATE)
        assert row["straddle_mean_absolute_at_mid"] == pytest.approx(float(middle.mean_absolute))
        # two ways to say the same thing, where the strike is near the forward
        low, high = row["straddle_mean_absolute_at_bid"], row["straddle_mean_absolute_at_ask"]
        assert low < row["flat_mean_absolute"] < high or "from the forward" in row["reason"]
        assert (row["reason"] is None) == (abs(np.log(strike / forward)) < 0.15 * row["at_the_money"] * years**0.5)
        assert row["smile_mean_absolute"] == pytest.approx(row["flat_mean_absolute"], rel=1e-4)


def test_exposures_by_own_volatilities_are_the_published_figures(ask, chain, carry, volatility):
    answer = ask("exposure", "volatility=quoted")
    contracts = Contracts(
        chain.right, chain.strike, chain.years, carry.rate, carry.dividend_yield, volatility, chain.open_interest
    )
    band = exposure_band(chain.spot, contracts, greeks=american.greeks)
    totals = answer["totals"]
    for name in ("gamma", "delta", "vanna", "charm"):
        assert totals["least"][name] == pytest.approx(float(getattr(band.total_low, name)), rel=1e-5)
        assert totals["greatest"][name] == pytest.approx(float(getattr(band.total_high, name)), rel=1e-5)
    # QUANT.md has these figures at the spot's carry, with European Greeks: -383 to +383, +85, flip at 742.7
    assert totals["greatest"]["gamma"] / 1e6 == pytest.approx(383, abs=5)
    assert totals["assumptions"]["calls_long_puts_short"]["gamma"] / 1e6 == pytest.approx(85, abs=5)
    assert answer["zero_gamma"]["spot"] == pytest.approx(742.7, abs=0.3)
    dense = np.linspace(740.0, 745.0, 101)
    flip = zero_gamma(chain.spot, contracts, DealerSide.CALLS_LONG_PUTS_SHORT, spots=dense, greeks=american.greeks)
    assert answer["zero_gamma"]["spot"] == pytest.approx(flip.nearest, abs=0.01)
    _, total = exposure(chain.spot, contracts, DealerSide.ALL_LONG, greeks=american.greeks)
    left_out = answer["contracts_left_out"]
    assert left_out["contracts"] == int(total.left_out)
    # half of the open interest has no volatility of its own: the surface tells most of it
    assert left_out["of_open_interest"] == np.nansum(chain.open_interest) == 179_502
    assert left_out["open_interest"] > 0.5 * left_out["of_open_interest"]
    filled = ask("exposure")
    assert filled["contracts_left_out"]["open_interest"] < 0.3 * left_out["of_open_interest"]
    assert filled["totals"]["greatest"]["gamma"] > 1.3 * totals["greatest"]["gamma"]


def test_open_interest_is_of_the_day_before_and_counted_once(ask, chain):
    answer = ask("open-interest", "by=expiration")
    assert answer["open_interest"]["date"] == answer["open_interest"]["oldest_date"] == "2015-12-23"
    assert (answer["open_interest"]["contracts"], answer["open_interest"]["contracts_without"]) == (2058, 134)
    ratio = put_call_ratio(chain.right, chain.open_interest)
    assert answer["totals"]["open_interest"]["put_call_ratio"] == pytest.approx(ratio.ratio)
    for row in answer["expirations"]:
        own = chain.expiration == np.datetime64(row["expiration"])
        pain = max_pain(chain.right[own], chain.strike[own], chain.open_interest[own])
        assert row["max_pain"] == (None if pain.reason else pain.strike)
        calls = chain.open_interest[own & (chain.right > 0)]
        assert row["call_open_interest"] == (np.nansum(calls) if np.isfinite(calls).any() else None)


def test_the_examples_are_what_is_answered(ask, service):
    schemas = service.document()["components"]["schemas"]
    for model, reading, query in (
        ("SurfaceModel", "surface", ""),
        ("SkewModel", "skew", ""),
        ("TermStructureModel", "term-structure", "days=30"),
        ("ExpectedMoveModel", "expected-move", ""),
        ("ExposureModel", "exposure", ""),
        ("OpenInterestModel", "open-interest", "by=expiration"),
    ):
        answer = ask(reading, query)
        assert_alike(schemas[model]["example"], answer)


def assert_alike(example, answer):
    """To six digits; of a table's rows the example has one."""
    if isinstance(example, dict):
        assert set(example) == set(answer)
        for key, value in example.items():
            assert_alike(value, answer[key])
    elif isinstance(example, list) and example and isinstance(example[0], dict):
        key = next(name for name in ("expiration", "strike", "days") if name in example[0])
        (row,) = [one for one in answer if one[key] == pytest.approx(example[0][key])][:1]
        assert_alike(example[0], row)
    elif isinstance(example, float) or (isinstance(example, list) and example):
        assert answer == pytest.approx(example, rel=1e-4, abs=1e-6)
    else:
        assert answer == example


def test_nothing_of_after_the_moment_is_in_an_answer(goog, service, ask):
    """What comes later is taken away, and the answers stay; this test is the module's last."""
    readings = ("surface", "skew", "term-structure", "expected-move", "exposure", "open-interest")
    before = [ask(reading) for reading in readings]
    with goog.database.connection() as connection, connection.cursor() as cursor:
        for table in ("quotes", "statistics"):
            cursor.execute(f"DELETE FROM {table} WHERE ts > '2015-12-24T16:00:00Z'")
        cursor.execute("DELETE FROM bars_1m WHERE ts >= '2015-12-24T16:00:00Z'")
        cursor.execute("DELETE FROM quote_latest WHERE ts > '2015-12-24T16:00:00Z'")
    other = Analytics(
        goog, market_calendar="xnys", market_source="databento", snapshot_quote_age_s=900, history_bars=1000
    )
    for reading, answer in zip(readings, before, strict=True):
        assert other.get(f"/options/GOOG/{reading}?{AT}") == answer

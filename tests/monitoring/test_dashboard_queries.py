"""The dashboards' SQL on the real schema, as the role that Grafana has: on nothing, and on a seeded market."""

from __future__ import annotations

import json
import math
from contextlib import closing

import psycopg2
import pytest
from prometheus_client import REGISTRY

from analytics_support import Analytics
from dashboard_support import NAMES, asked, dashboard, panel, sql_of
from data_ingestion_support import Ingestion, settings_for
from ots_analytics import fit_quality
from ots_common.times import rfc3339
from ots_simulator.underlyings import RATE
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, SECOND, TODAY, make_market
from volatility_support import catch_up, import_close, import_records

UNDERLYINGS = ("AAPL", "SPY")
NOON = TODAY * DAY + 12 * HOUR
UNTIL = NOON + 30 * SECOND
BEFORE = 5 * MINUTE
CHOSEN = {"horizon": "5", "min_volume": "10"}
QUERIES = [(name, whose) for name in NAMES for whose, _, _ in sql_of(name)]
# none there: a rank needs twenty closes
WITHOUT_ROWS = {("options-desk", "Its rank")}


class Grafana:
    """Asks as Grafana does."""

    def __init__(self, server, market):
        self._connection = psycopg2.connect(server.url("ots_grafana", "grafana-password", market.name))
        self._connection.autocommit = True

    def query(self, board: str, text: str, until: int = UNTIL, **chosen: str):
        """Rows as dicts."""
        with self._connection.cursor() as cursor:
            cursor.execute(asked(board, text, until - HOUR, until, **{**CHOSEN, **chosen}))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def columns(self, board: str, text: str):
        """The names of the columns."""
        with self._connection.cursor() as cursor:
            cursor.execute(asked(board, text, UNTIL - HOUR, UNTIL, **CHOSEN))
            return [column[0] for column in cursor.description]

    def of_panel(self, title: str, until: int = UNTIL, **chosen: str):
        """A panel of the options desk."""
        (target,) = panel("options-desk", title)["targets"]
        return self.query("options-desk", target["rawSql"], until, **chosen)

    def close(self):
        """Let the database go."""
        self._connection.close()


@pytest.fixture(scope="module")
def grafana(postgres, market):
    with closing(Grafana(postgres, market)) as one:
        yield one


def query_of(board, whose):
    (found,) = ((text, shown) for name, text, shown in sql_of(board) if name == whose)
    return found


@pytest.mark.parametrize(("board", "whose"), QUERIES)
def test_answers_over_an_empty_database_with_the_columns_that_are_shown(grafana, board, whose):
    text, shown = query_of(board, whose)
    columns = grafana.columns(board, text)
    if shown is None:
        return
    if shown["targets"][0]["format"] == "time_series":
        assert columns[0] == "time"
    named = {one["matcher"]["options"] for one in shown["fieldConfig"]["overrides"] if one["matcher"]["id"] == "byName"}
    if shown.get("transformations"):
        (matrix,) = (one["options"] for one in shown["transformations"] if one["id"] == "groupingToMatrix")
        assert [matrix[field] for field in ("rowField", "columnField", "valueField")] == columns
        columns = [f"{columns[0]}\\{columns[1]}"]
    assert named <= {*columns}
    if "xField" in shown["options"]:
        assert shown["options"]["xField"] == columns[0]


def test_the_role_of_dashboards_writes_nothing(grafana):
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        grafana.query("options-desk", "CREATE TABLE own (n int)")


@pytest.fixture(scope="module")
def stored(market, grafana, redis_server, tmp_path_factory):
    """Two closes, and quotes, trades and open interest of today around noon, with the snapshots of two moments."""
    seeded = make_market(now=NOON + HOUR)
    settings = settings_for(
        market, redis_server, tmp_path_factory.mktemp("spool"), market_calendar="around-the-clock"
    )  # fmt: skip
    service = Ingestion(settings)
    with service.working():
        curve = {"source": "test", "date": "2026-03-08", "curve": [{"tenor": "1Y", "rate": RATE}]}
        assert service.post("/rates", json={**curve, "known_at": "2026-03-08"}).status_code < 300
        for day in (TODAY - 2, TODAY - 1):
            import_close(service, seeded, day, UNDERLYINGS)
        for at in (NOON - BEFORE, NOON):
            import_records(service, seeded, OPTIONS, "cbbo-1m", TODAY, at - MINUTE, at + 1, UNDERLYINGS)
            import_records(service, seeded, EQUITIES, "ohlcv-1m", TODAY, at - 2 * MINUTE, at, UNDERLYINGS)
        import_records(service, seeded, OPTIONS, "statistics", TODAY, TODAY * DAY, NOON, UNDERLYINGS)
        import_records(service, seeded, OPTIONS, "trades", TODAY, NOON - HOUR, NOON, UNDERLYINGS)
    fit_quality._newest_ns.clear()  # other modules of this process may have taken later ones
    for at in (NOON - BEFORE, NOON):
        assert catch_up(market, at + 20 * SECOND) >= len(UNDERLYINGS)
    return market


@pytest.fixture(scope="module")
def analytics(stored, redis_server):
    return Analytics(stored, redis_url=redis_server.url, market_source="simulated", market_calendar="around-the-clock")


@pytest.mark.parametrize("whose", [whose for whose, _, _ in sql_of("options-desk")])
def test_rows_come_out_of_a_market(stored, grafana, whose):
    text, _ = query_of("options-desk", whose)
    rows = grafana.query("options-desk", text)
    assert bool(rows) == (("options-desk", whose) not in WITHOUT_ROWS)


def test_nothing_later_is_shown(stored, grafana):
    """At the end of a range before the snapshot of noon the earlier one answers."""
    (now,), (earlier,) = (grafana.of_panel("Snapshot of", until) for until in (UNTIL, NOON - SECOND))
    assert (int(now["snapshot"]), int(earlier["snapshot"])) == (NOON // 1_000_000, (NOON - BEFORE) // 1_000_000)
    assert grafana.of_panel("Snapshot of", (TODAY - 12) * DAY) == []


@pytest.mark.parametrize("underlying", UNDERLYINGS)
def test_gamma_exposure_is_that_of_the_api(stored, grafana, analytics, underlying):
    (own,) = grafana.of_panel("Gamma exposure in total", underlying=underlying)
    answer = analytics.get(f"/options/{underlying}/exposure?volatility=quoted&as_of={rfc3339(NOON)}")
    theirs = answer["totals"]
    expected = {
        "least": theirs["least"]["gamma"],
        "calls long, puts short": theirs["assumptions"]["calls_long_puts_short"]["gamma"],
        "greatest": theirs["greatest"]["gamma"],
    }
    assert {name: float(value) for name, value in own.items()} == pytest.approx(expected, rel=1e-5)
    assert expected["greatest"] > 0
    gross = expected["greatest"]
    by_strike = {
        float(row["strike"]): row for row in grafana.of_panel("Gamma exposure by strike", underlying=underlying)
    }
    api = {row["strike"]: row for row in answer["strikes"] if row["strike"] in by_strike}
    assert len(api) == len(by_strike) > 5
    for strike, row in api.items():
        found = [float(by_strike[strike][name]) for name in expected]
        assert found == pytest.approx([row["gamma_least"], row["gamma"], row["gamma_greatest"]], abs=1e-6 * gross)


@pytest.mark.parametrize("underlying", UNDERLYINGS)
def test_expected_moves_are_those_of_the_api(stored, grafana, analytics, underlying):
    own = {row["expiration"]: row for row in grafana.of_panel("Until each expiration", underlying=underlying)}
    answer = analytics.get(f"/options/{underlying}/expected-move?as_of={rfc3339(NOON)}")
    assert own.keys() == {row["expiration"] for row in answer["expirations"]}
    names = {
        "mean move": "flat_mean_absolute", "one deviation": "flat_standard_deviation", "lower": "flat_lower",
        "upper": "flat_upper", "straddle": "straddle_mid", "strike": "straddle_strike", "forward": "forward",
    }  # fmt: skip
    compared = 0
    for row in answer["expirations"]:
        for name, theirs in names.items():
            value = own[row["expiration"]][name]
            if row[theirs] is None:
                assert value is None
            else:
                assert float(value) == pytest.approx(row[theirs], rel=1e-6)
                compared += 1
    assert compared > 20


@pytest.mark.parametrize("underlying", UNDERLYINGS)
def test_unusual_volume_is_that_of_the_api(stored, grafana, analytics, underlying):
    own = grafana.of_panel("Unusual volume", underlying=underlying, min_volume="1")
    answer = analytics.get(f"/options/{underlying}/unusual?as_of={rfc3339(NOON)}&min_volume=1&limit=1000")
    volumes = {row["symbol"]: row["volume"] for row in answer["contracts"]}
    said = {row["symbol"]: row["volume"] for row in own if row["said"] == "unusual"}
    assert said == {symbol: volumes[symbol] for symbol in said}
    assert len(said) == min(15, len(volumes))
    assert any(row["volume"] for row in own)


def test_a_mover_is_bought_at_the_ask_and_sold_at_the_bid(stored, grafana, analytics):
    rows = grafana.of_panel("Movers, net of the spread", fee="0.65")
    chains = {
        at: {row["symbol"]: row for row in analytics.get(f"/options/SPY?as_of={rfc3339(at)}&limit=1000")["contracts"]}
        for at in (NOON - BEFORE, NOON)
    }
    assert len(rows) == 15
    for row in rows:
        then, now = chains[NOON - BEFORE][row["symbol"]], chains[NOON][row["symbol"]]
        paid, got = 100 * then["ask"] + 0.65, 100 * now["bid"] - 0.65
        assert float(row["net move"]) == pytest.approx(got / paid - 1, rel=1e-9)
        assert float(row["net move"]) < float(row["mid's move"])


def test_the_fit_of_the_newest_snapshot_is_counted(stored):
    for underlying in UNDERLYINGS:
        rms, worst = (
            REGISTRY.get_sample_value("ots_snapshots_fit_error_ratio", {"underlying": underlying, "kind": kind})
            for kind in ("rms", "max")
        )
        assert 0 < rms <= worst < 0.05
        within = REGISTRY.get_sample_value("ots_snapshots_fit_within_spread_ratio", {"underlying": underlying})
        assert 0.5 < within <= 1
        assert not math.isnan(rms)


def test_no_query_opens_partitions_out_of_its_range(stored, market, grafana):
    """Whatever is stored: partitions before the longest look-back, and after the range's end, are in no plan."""
    tables = ("quotes", "trades", "bars_1m", "statistics", "volatility_snapshots", "volatility_expirations")
    tables += ("volatility_contracts",)
    with closing(psycopg2.connect(market.owner)) as connection, connection, connection.cursor() as cursor:
        for table in tables:
            cursor.execute("SELECT open_chunks(%s, ARRAY['2001-06-04', '2051-06-05']::timestamptz[])", (table,))
        cursor.execute("SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relname ~ '_p(2001|2051)'")
        far = {row[0] for row in cursor.fetchall()}
    assert len(far) == 2 * len(tables)
    for board, whose in QUERIES:
        text, _ = query_of(board, whose)
        (plan,) = grafana.query(board, f"EXPLAIN (FORMAT JSON) {text}")
        opened = {name for name in far if f'"{name}"' in json.dumps(plan["QUERY PLAN"])}
        assert not opened, f"{board}, {whose}: {opened}"


def test_variables_begin_with_a_value_that_there_is(stored, grafana):
    text, _ = query_of("options-desk", "variable underlying")
    assert [row["underlying"] for row in grafana.query("options-desk", text)] == list(UNDERLYINGS)
    text, _ = query_of("options-desk", "variable expiration")
    values = [row["__value"] for row in grafana.query("options-desk", text)]
    assert values[0] == "auto"
    assert len(values) > 3
    chosen = {one["name"]: one["current"]["value"] for one in dashboard("options-desk")["templating"]["list"]}
    assert chosen["underlying"] in UNDERLYINGS
    smiles = {value: grafana.of_panel("Smile", expiration=value) for value in values}
    assert smiles["auto"] in [rows for value, rows in smiles.items() if value != "auto"]

"""The figures of quality, counted again another way: by pandas from the files, and record by record from lists."""

import itertools
from datetime import date

import databento as db
import numpy as np
import pandas as pd
import pytest
from databento_dbn import Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, bar, dbn_file, midnight, quote, trade
from ots_ingestion.gaps import close_gap, open_gap
from ots_ingestion.quality import (
    OUTLIER_DEVIATIONS,
    OUTLIER_FLOOR,
    latency_of,
    order_of,
    outliers_of,
    quote_faults,
)

UNDEF = 2**63 - 1
OPEN = midnight(date(2024, 3, 4)) + 14 * 3600 * 10**9 + 30 * MINUTE
CLOSE = OPEN + 390 * MINUTE

small = st.integers(0, 3)


def array(values):
    return np.array(values, np.int64)


@settings(deadline=None)
@given(st.lists(st.tuples(small, small, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_order_is_what_a_look_at_every_pair_finds(rows):
    found = order_of(*(array([row[i] for row in rows]) for i in range(5)))
    arrived = sorted(rows, key=lambda row: (row[3], row[4]))

    def behind(field):
        return sum(
            any(other[:2] == row[:2] and other[field] > row[field] for other in arrived[:i])
            for i, row in enumerate(arrived)
        )

    assert found.by_event == behind(2)
    assert found.by_sequence == behind(4)
    assert found.records == len(rows)


def test_late_is_more_than_a_second():
    event = array([0, 0, 0])
    found = order_of(array([1] * 3), array([1] * 3), event, array([10**9, 10**9 + 1, 5]), None)
    assert (found.late, found.by_sequence) == (1, None)


price = st.sampled_from([UNDEF, 1, 2, 3])
quotes = st.lists(st.tuples(small, st.integers(0, 40), price, price, small, small), max_size=30)


@settings(deadline=None)
@given(quotes)
def test_quote_faults_are_what_a_walk_finds(rows):
    rows = sorted(rows, key=lambda row: row[:2])
    times = [row[1] * 2 * MINUTE for row in rows]
    found = quote_faults(array([r[0] for r in rows]), array(times), *(array([r[i] for r in rows]) for i in range(2, 6)))
    crossed = locked = one_sided = empty = stale = 0
    last = {}
    for at, (instrument, _, *values) in zip(times, rows, strict=True):
        bid, ask = values[:2]
        empty += bid == ask == UNDEF
        one_sided += (bid == UNDEF) != (ask == UNDEF)
        crossed += bid != UNDEF and ask != UNDEF and bid > ask
        locked += bid == ask != UNDEF
        if last.get(instrument, (None,))[0] != values:
            last[instrument] = (values, at)
        stale += at - last[instrument][1] >= 15 * MINUTE
    assert (found.crossed, found.locked, found.one_sided, found.empty, found.stale, found.records) == (
        crossed, locked, one_sided, empty, stale, len(rows),
    )  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.integers(-5, 100), min_size=1, max_size=60))
def test_percentiles_are_observed_values(taken):
    found = latency_of(np.zeros(len(taken), np.int64), array(taken))
    ordered = sorted(taken)
    for share, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        # the smallest value that at least this share do not exceed
        assert value == next(v for i, v in enumerate(ordered, 1) if i / len(ordered) >= share - 1e-12)
    assert (found.max, found.negative) == (ordered[-1], sum(v < 0 for v in taken))
    assert latency_of(array([]), array([])) is None


def by_pandas(prices):
    """Hampel's identifier by pandas' rolling median, the windows at the ends shifted to be whole."""
    logs = pd.Series(np.log(np.asarray(prices, float)))
    width, n = 51, len(logs)
    if n < width:
        return 0
    found = 0
    for i, value in enumerate(logs):
        start = min(max(i - 25, 0), n - width)
        window = logs.iloc[start : start + width]
        middle = window.median()
        sigma = 1.4826 * (window - middle).abs().median()
        found += abs(value - middle) > max(OUTLIER_DEVIATIONS * sigma, OUTLIER_FLOOR)
    return found


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 130))
def test_outliers_are_those_of_the_definition(seed, n):
    random = np.random.default_rng(seed)
    prices = np.round(100 * np.exp(np.cumsum(random.normal(0, 2e-4, n))), 2) * 1e9
    prices[random.random(n) < 0.03] *= random.choice([0.5, 0.99, 1.001, 1.2])
    prices = prices.astype(np.int64)
    found = outliers_of(np.full(n, 7), prices)
    assert found.count == by_pandas(prices)
    assert found.evaluated == (n if n >= 51 else 0)


def test_outliers_keep_instruments_apart_and_skip_what_has_no_logarithm():
    cheap, dear = np.full(60, 10**9), np.full(60, 500 * 10**9)
    mixed = np.stack([cheap, dear], axis=1).ravel()
    which = np.tile([1, 2], 60)
    assert outliers_of(which, mixed).count == 0
    mixed[60] = 3 * 10**9
    mixed[61] = 0
    assert outliers_of(which, mixed).count == 1
    assert outliers_of(which, mixed).evaluated == 119
    assert outliers_of(array([]), array([])).evaluated == 0


@pytest.fixture(scope="module")
def ingestion(market, redis_server, tmp_path_factory):
    """With large batches: whole days are stored here."""
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        yield service


@pytest.fixture(scope="module")
def goog(ingestion, real_data):
    folder = real_data / "OPRA.PILLAR" / "GOOG-2015-12-24"
    for name in ("definition", "cbbo-1m", "ohlcv-1m"):
        ingestion.imported((folder / f"{name}.dbn.zst").read_bytes())
    stock = real_data / "EQUS.MINI" / "GOOG-2015-12-24" / "ohlcv-1m.dbn.zst"
    ingestion.imported(stock.read_bytes())
    return folder


def schema_of(answer, name):
    return next(schema for schema in answer.json["schemas"] if schema["schema"] == name)


def test_a_half_day_of_real_option_quotes_counted_by_pandas(ingestion, goog):
    answer = ingestion.get("/quality/GOOG?date=2015-12-24&asset=options")
    assert answer.status_code == 200, answer.text
    session = answer.json["session"]
    assert (session["half_day"], session["closes_at"]) == (True, "2015-12-24T18:00:00Z")
    assert answer.json["contracts"] == 2192
    raw = pd.DataFrame(db.DBNStore.from_file(goog / "cbbo-1m.dbn.zst").to_ndarray())
    opens, closes = pd.Timestamp("2015-12-24 14:30").value, pd.Timestamp("2015-12-24 18:00").value
    raw["minute"] = (raw.ts_recv.astype("int64") - 1) // MINUTE
    inside = raw[(raw.ts_recv > opens) & (raw.ts_recv <= closes)]
    found = schema_of(answer, "cbbo-1m")
    assert found["records"] == len(raw) == 275_552
    assert found["outside_session"] == len(raw) - len(inside)
    contracts = raw.instrument_id.nunique()
    assert found["completeness"]["expected_minutes"] == 210 * contracts
    present = inside.groupby("instrument_id").minute.nunique().sum()
    assert found["completeness"]["present_minutes"] == present
    no_bid, no_ask = inside.bid_px_00 == UNDEF, inside.ask_px_00 == UNDEF
    both = ~no_bid & ~no_ask
    counted = found["quotes"]
    assert counted["quotes"] == len(inside)
    assert counted["crossed"] == (both & (inside.bid_px_00 > inside.ask_px_00)).sum()
    assert counted["locked"] == (both & (inside.bid_px_00 == inside.ask_px_00)).sum()
    assert counted["one_sided"] == (no_bid ^ no_ask).sum() > 0
    assert counted["one_sided_share"] == pytest.approx(counted["one_sided"] / len(inside), rel=1e-15)
    assert counted["empty"] == (no_bid & no_ask).sum()
    ordered = inside.sort_values(["instrument_id", "ts_recv"], kind="stable")
    fields = ["bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00"]
    changed = (ordered.groupby("instrument_id")[fields].shift() != ordered[fields]).any(axis=1)
    since = ordered.ts_recv.astype("int64").where(changed).groupby(ordered.instrument_id).ffill()
    assert counted["stale"] == (ordered.ts_recv.astype("int64") - since >= 15 * MINUTE).sum() > 0
    assert found["order"] is None
    assert "sample" in found["reason"]
    bars = pd.DataFrame(db.DBNStore.from_file(goog / "ohlcv-1m.dbn.zst").to_ndarray())
    assert schema_of(answer, "ohlcv-1m")["records"] == len(bars.drop_duplicates(["instrument_id", "ts_event"]))
    assert ingestion.get("/quality/GOOG.OPT?date=2015-12-24").json == answer.json


def test_a_half_day_of_a_stock_expects_half_a_day_of_minutes(ingestion, goog):
    answer = ingestion.get("/quality/GOOG?date=2015-12-24")
    found = schema_of(answer, "ohlcv-1m")
    assert found["completeness"]["expected_minutes"] == 210
    assert found["records"] == 227
    # the file's other minutes lie before the open and after the close
    raw = db.DBNStore.from_file(goog.parents[1] / "EQUS.MINI" / "GOOG-2015-12-24" / "ohlcv-1m.dbn.zst").to_ndarray()
    opens = pd.Timestamp("2015-12-24 14:30").value
    inside = (raw["ts_event"] >= opens) & (raw["ts_event"] < opens + 210 * MINUTE)
    assert found["completeness"]["present_minutes"] == inside.sum()
    assert found["outside_session"] == 227 - inside.sum()
    assert answer.json["latency_event_to_store"]["p50_ms"] is None
    assert answer.json["duplicates"]["count"] is None
    assert answer.json["as_of"] == str(np.datetime64(int(raw["ts_event"].max()) + MINUTE, "ns"))[:19] + "Z"


def test_a_day_of_real_trades_counted_by_pandas(ingestion, real_data):
    path = real_data / "EQUS.MINI" / "SPY-2013-10-07" / "trades.dbn.zst"
    ingestion.imported(path.read_bytes())
    again = ingestion.imported(path.read_bytes())
    answer = ingestion.get("/quality/SPY?date=2013-10-07")
    raw = pd.DataFrame(db.DBNStore.from_file(path).to_ndarray())
    opens = pd.Timestamp("2013-10-07 13:30").value
    at = raw.ts_event.astype("int64")
    inside = raw[(at >= opens) & (at < opens + 390 * MINUTE)]
    found = schema_of(answer, "trades")
    assert found["records"] == len(raw) == 250_601
    assert found["outside_session"] == len(raw) - len(inside) > 0
    assert found["completeness"] == {"expected_minutes": 390, "present_minutes": 390, "share": 1.0}
    assert found["order"] == {
        "late": 0, "late_after_ms": 1000.0, "out_of_order_by_event": 0, "out_of_order_by_sequence": 0,
    }  # fmt: skip
    assert found["latency_event_to_receive"]["max_ms"] == 0
    logs = np.log(inside.price)
    windows = np.lib.stride_tricks.sliding_window_view(logs.to_numpy(), 51)
    middle = pd.Series(np.sort(windows, axis=1)[:, 25])
    spread = 1.4826 * np.sort(np.abs(windows - middle.to_numpy()[:, None]), axis=1)[:, 25]
    which = np.clip(np.arange(len(logs)) - 25, 0, len(windows) - 1)
    far = np.abs(logs.to_numpy() - middle.to_numpy()[which]) > np.maximum(10 * spread[which], 0.001)
    assert found["outliers"]["count"] == far.sum()
    assert found["outliers"]["evaluated"] == len(inside)
    assert again["duplicate"] == 250_601
    duplicates = answer.json["duplicates"]
    assert (duplicates["runs"], duplicates["in_runs"]) == (2, 250_601)


def test_what_was_planted_is_counted(ingestion):
    """Trades that came late and in the wrong order, minute bars with holes, records before the open."""
    trades = []
    for i, (event, received, sequence) in enumerate(
        [(0, 5, 1), (10, 12, 3), (4, 20, 2), (11, 2 * 10**9, 4), (12, 2 * 10**9 + 1, 5)]
    ):
        record = np.frombuffer(trade(OPEN + event, 50, 1, sequence=sequence), np.dtype(_trade_layout())).copy()
        record["ts_recv"] = OPEN + received
        trades.append(record.tobytes())
        assert i < 5
    early = trade(OPEN - MINUTE, 49)
    ingestion.imported(dbn_file(Schema.TRADES, [early, *trades], symbols={"PLANTED": 1}))
    bars = [bar(OPEN + i * MINUTE, (1, 1, 1, 1)) for i in range(390) if i % 10]
    ingestion.imported(dbn_file(Schema.OHLCV_1M, bars, symbols={"PLANTED": 1}))
    answer = ingestion.get("/quality/PLANTED?date=2024-03-04")
    found = schema_of(answer, "trades")
    assert (found["records"], found["outside_session"], found["completeness"]["present_minutes"]) == (6, 1, 1)
    assert found["order"] == {
        "late": 2, "late_after_ms": 1000.0, "out_of_order_by_event": 1, "out_of_order_by_sequence": 1,
    }  # fmt: skip
    assert found["latency_event_to_receive"] == {
        "records": 5, "negative": 0, "p50_ms": 16e-6, "p90_ms": 1999.999989, "p99_ms": 1999.999989,
        "max_ms": 1999.999989,
    }  # fmt: skip
    assert found["outliers"] == {**found["outliers"], "count": 0, "evaluated": 0}
    assert schema_of(answer, "ohlcv-1m")["completeness"] == {
        "expected_minutes": 390, "present_minutes": 351, "share": 0.9,
    }  # fmt: skip


def _trade_layout():
    import databento_dbn

    return databento_dbn.TradeMsg._dtypes


def test_the_samples_of_a_session_end_at_its_close(ingestion):
    at = [OPEN, OPEN + MINUTE, CLOSE, CLOSE + MINUTE]
    symbols = {"TSTS  240315C00100000": 1}
    body = dbn_file(Schema.CBBO_1M, [quote(t, 1.0, 1.1) for t in at], symbols=symbols, dataset="OPRA.PILLAR")
    ingestion.imported(body)
    found = schema_of(ingestion.get("/quality/TSTS240315C00100000?date=2024-03-04"), "cbbo-1m")
    assert ingestion.get("/quality/TSTS240315C00100000?date=2024-03-04").json["as_of"] == "2024-03-04T21:01:00Z"
    # the sample at the open is of the minute before it, and that at the close of the session's last
    assert (found["records"], found["outside_session"], found["completeness"]["present_minutes"]) == (4, 2, 2)


def test_open_gaps_of_the_session_are_shown_and_measured(ingestion, market):
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN, 5)], symbols={"HOLEY": 1}))
    spans = [(OPEN - 60 * MINUTE, OPEN + 5 * MINUTE), (OPEN + 3 * MINUTE, OPEN + 9 * MINUTE), (OPEN - DAY, OPEN - 1)]
    with market.database.connection() as connection, connection.cursor() as cursor:
        for (start, end), evidence in itertools.product(spans, ["disconnect", "mute"]):
            gap = open_gap(
                cursor, dataset="EQUS.MINI", schema="trades", symbol="HOLEY", starts_ns=start, ends_ns=end,
                evidence=evidence, detail="planted",
            )  # fmt: skip
        other = open_gap(
            cursor, dataset="EQUS.MINI", schema="trades", symbol="OTHER", starts_ns=OPEN, ends_ns=CLOSE,
            evidence="mute", detail="planted",
        )  # fmt: skip
        closed = open_gap(
            cursor, dataset="EQUS.MINI", schema="trades", symbol=None, starts_ns=OPEN, ends_ns=CLOSE,
            evidence="skipped", detail="planted",
        )  # fmt: skip
        close_gap(cursor, closed, closed_by="replay", found=3)
        assert gap < other
    gaps = ingestion.get("/quality/HOLEY?date=2024-03-04").json["gaps"]
    assert len(gaps["open"]) == 4
    assert (gaps["closed"], gaps["missing_s"]) == (1, 540)


def test_the_same_answer_again_is_not_sent_again(ingestion):
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN, 5)], symbols={"TAGGED": 1}))
    first = ingestion.get("/quality/TAGGED?date=2024-03-04")
    again = ingestion.get("/quality/TAGGED?date=2024-03-04", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN + 1, 5)], symbols={"TAGGED": 1}))
    changed = ingestion.get("/quality/TAGGED?date=2024-03-04", **{"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200


def test_nothing_stored_is_a_404_with_a_line_that_works(ingestion):
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN, 5)], symbols={"ELSEWHEN": 1}))
    answer = ingestion.get("/quality/ELSEWHEN?date=2024-03-05")
    assert answer.status_code == 404
    assert "/quality/ELSEWHEN?date=2024-03-04" in answer.json["hint"]
    assert ingestion.get("/quality/ELSEWHEN?date=2024-03-04").status_code == 200
    assert ingestion.get("/quality/ELSEWHEN").status_code == 404
    assert ingestion.get("/quality/NEVERHEARD?date=2024-03-04").status_code == 404
    assert ingestion.get("/quality/NEVERHEARD?asset=options").status_code == 404


@pytest.mark.parametrize(
    "query",
    ["date=2024-03-03", "date=2024-12-25", "date=1900-01-01", "date=2999-01-01", "date=x", "asset=bonds", "a=1"],
)
def test_a_day_without_a_session_is_refused(ingestion, query):
    answer = ingestion.get(f"/quality/TEST?{query}")
    assert answer.status_code == 422, answer.text


def test_a_schema_with_too_many_records_keeps_its_minutes_and_says_so(ingestion, monkeypatch):
    ingestion.imported(
        dbn_file(Schema.TRADES, [trade(OPEN + i * MINUTE, 5) for i in range(30)], symbols={"TOOMANY": 1})
    )
    monkeypatch.setattr("ots_ingestion.quality_report.MAX_RECORDS", 29)
    found = schema_of(ingestion.get("/quality/TOOMANY?date=2024-03-04"), "trades")
    assert found["completeness"]["present_minutes"] == 30
    assert (found["order"], found["outliers"], found["latency_event_to_receive"]) == (None, None, None)
    assert "30 records are more than the 29" in found["reason"]


def test_groups_of_instruments_change_no_figure(ingestion, monkeypatch, goog):
    whole = ingestion.get("/quality/GOOG?date=2015-12-24&asset=options").json
    monkeypatch.setattr("ots_ingestion.quality_report._GROUP_RECORDS", 10_000)
    assert ingestion.get("/quality/GOOG?date=2015-12-24&asset=options").json == whole

"""Patterns over HTTP: what was known when, what a split is not, and what nonsense is answered."""

from datetime import date

import numpy as np
import pytest
from databento_dbn import RType, Schema
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, bar, dbn_file, midnight
from ots_analytics.app import create_app
from ots_analytics.routes.patterns import parse_types
from ots_analytics.settings import AnalyticsSettings
from ots_common.problems import Problem
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_quant.patterns import DETECTORS, FAMILIES

KEY = SecretStr("a" * 40)
FIRST = date(2022, 1, 3)
OPTION = "AAPL  240621C00190000"


def daily(closes, volume=1000):
    return [
        bar(midnight(FIRST) + i * DAY, (c, c * 1.01, c * 0.99, c), volume, rtype=RType.OHLCV_1D)
        for i, c in enumerate(np.round(closes, 2).tolist())
    ]


def double_top():
    """A rise, two equal tops with a dip between, and a fall through it."""
    legs = [(80, 100, 30), (100, 90, 12), (90, 100, 12), (100, 80, 20)]
    flat = np.full(30, 80.0)
    return np.concatenate([flat, *(np.linspace(a, b, n, endpoint=False) for a, b, n in legs), [80.0]])


@pytest.fixture(scope="module")
def service(market, redis_server, tmp_path_factory):
    ingestion = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    walk = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.02, 400)))
    minutes = 50 + np.cumsum(np.random.default_rng(4).normal(0, 0.02, 2000)).round(2)
    files = [
        dbn_file(Schema.OHLCV_1D, daily(double_top()), day=FIRST, days=400, symbols={"TOPS": 1}),
        dbn_file(Schema.OHLCV_1D, daily(walk), day=FIRST, days=500, symbols={"WALK": 1}),
        dbn_file(Schema.OHLCV_1D, daily([5.0, 5.1, 5.0]), day=FIRST, days=400, symbols={"FEW": 1}),
        dbn_file(
            Schema.OHLCV_1D,
            [*daily(walk[:60]), bar(midnight(FIRST) + 60 * DAY, (0, 0, 0, 0), 0, rtype=RType.OHLCV_1D)],
            day=FIRST,
            days=400,
            symbols={"ZERO": 1},
        ),
        dbn_file(
            Schema.OHLCV_1D,
            [bar(midnight(FIRST) + i * DAY, (0, 0, 0, 0), 0, rtype=RType.OHLCV_1D) for i in range(3)],
            day=FIRST,
            days=400,
            symbols={"NOPRICE": 1},
        ),
        dbn_file(
            Schema.OHLCV_1M,
            [bar(midnight(FIRST) + i * MINUTE, (c, c, c, c), 10) for i, c in enumerate(minutes.tolist())],
            day=FIRST,
            days=5,
            symbols={"MINS": 1},
        ),
        dbn_file(Schema.OHLCV_1D, daily(walk[:200]), day=FIRST, days=400, symbols={OPTION: 1}, dataset="OPRA.PILLAR"),
    ]
    with ingestion.working():
        for file in files:
            ingestion.imported(file)
    return ingestion


@pytest.fixture(scope="module")
def ask(market, service):
    settings = AnalyticsSettings(database_url=market.reader, accept_keys={"gateway": KEY}, log_level="ERROR")
    client = create_app(settings).test_client()

    def get(symbol, query=""):
        token = sign_internal_token(
            Caller("gateway", "u", "u", "viewer", "request-01"), "analytics", {"analytics": KEY}
        )
        return client.get(f"/api/v1/analytics/patterns/{symbol}?{query}", headers={HEADER: token})

    return get


def test_a_double_top_is_told_with_its_pivots_and_levels(ask):
    answer = ask("TOPS", "types=double_top&days=200")
    assert answer.status_code == 200, answer.text
    body = answer.json
    (event,) = body["patterns"]
    assert (event["type"], event["family"], event["direction"]) == ("double_top", "reversals", "bearish")
    assert [pivot["price"] for pivot in event["pivots"]] == [101.0, pytest.approx(89.1), 101.0]
    assert event["levels"] == {
        "neckline": pytest.approx(89.1), "target": pytest.approx(77.2), "invalidation": pytest.approx(101.0)
    }  # fmt: skip
    times = [pivot["confirmed_at"] for pivot in event["pivots"]]
    assert event["start"] == event["pivots"][0]["time"] < event["end"] < event["confirmed_at"]
    assert times == sorted(times)
    assert times[-1] <= event["confirmed_at"] <= body["as_of"]
    assert set(event["quality"]["parts"]) == set(DETECTORS["double_top"].parts)
    assert body["total"] == 1
    assert (body["source"], body["dataset"]) == ("databento", "EQUS.MINI")


def test_it_is_known_from_its_confirmation_and_not_a_nanosecond_before(ask):
    known = ask("TOPS", "types=double_top&days=200").json["patterns"][0]["confirmed_at"]
    before = ask("TOPS", f"types=double_top&days=200&as_of={known.replace('T00:00:00Z', 'T00:00:00.000000000Z')}").json
    assert before["total"] == 1
    eve = np.datetime64(known.removesuffix("Z"), "ns") - np.timedelta64(1, "ns")
    assert ask("TOPS", f"types=double_top&days=200&as_of={eve}Z").json["total"] == 0


def test_what_was_said_stays_said(ask):
    whole = ask("WALK", "days=3650&limit=5000&order=oldest").json
    assert whole["total"] > 300
    for day in (60, 150, 299):
        as_of = str(np.datetime64(FIRST) + day) + "T00:00:00Z"
        then = ask("WALK", f"days=3650&limit=5000&order=oldest&as_of={as_of}").json
        assert then["as_of"] == as_of
        assert then["patterns"] == [event for event in whole["patterns"] if event["confirmed_at"] <= as_of]


def test_days_choose_by_confirmation_and_limit_by_order(ask):
    whole = ask("WALK", "days=3650&limit=5000").json["patterns"]
    body = ask("WALK", "days=40&limit=5000").json
    assert body["patterns"] == [e for e in whole if body["window"]["after"] < e["confirmed_at"]]
    assert 0 < len(body["patterns"]) < len(whole)
    assert body["window"]["bars_before"] == 360
    newest = ask("WALK", "days=40&limit=3").json
    assert (newest["total"], newest["patterns"]) == (body["total"], body["patterns"][:3])
    oldest = ask("WALK", "days=40&limit=5000&order=oldest").json["patterns"]
    assert oldest == body["patterns"][::-1]


def test_types_and_families(ask):
    whole = ask("WALK", "days=3650&limit=5000&order=oldest").json["patterns"]
    some = ask("WALK", "days=3650&limit=5000&order=oldest&types=GAPS,%20doji,divergences,doji").json["patterns"]
    assert some == [e for e in whole if e["family"] in ("gaps", "divergences") or e["type"] == "doji"]
    assert {e["family"] for e in whole} <= set(FAMILIES)


def test_levels_and_trend_are_those_of_the_newest_bar(ask):
    body = ask("WALK").json
    assert body["levels"] == sorted(body["levels"], key=lambda level: level["price"])
    assert all(level["touches"] >= 2 and level["first"] < level["last"] for level in body["levels"])
    assert body["trend"]["direction"] in ("up", "down", "none")
    assert ask("FEW").json["trend"] is None


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h"])
def test_every_timeframe(ask, timeframe):
    body = ask("MINS", f"timeframe={timeframe}&days=2").json
    assert body["timeframe"] == timeframe
    assert body["patterns"] or timeframe == "1h"
    assert body["note"] is None or "history" in body["note"]


def test_an_options_own_bars(ask):
    body = ask("AAPL240621C00190000", "days=100&types=candlesticks").json
    assert (body["symbol"], body["dataset"]) == (OPTION, "OPRA.PILLAR")
    assert body["total"] > 0


def test_few_bars_are_an_answer_with_a_note(ask):
    body = ask("FEW").json
    assert body["patterns"] == []
    assert "3 bars are few" in body["note"]


def test_a_bar_without_prices_is_left_out_and_counted(ask):
    body = ask("ZERO", "days=3650").json
    assert body["quality"]["unusable"] == 1
    assert body["quality"]["bars"] == 61
    clean = ask("WALK", "days=3650&limit=5000&as_of=2022-03-04T00:00:00Z").json
    assert body["patterns"] == clean["patterns"]
    nothing = ask("NOPRICE").json
    assert (nothing["patterns"], nothing["levels"], nothing["trend"]) == ([], [], None)
    assert nothing["quality"]["unusable"] == 3


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("days=0", "days"),
        ("days=-3", "days"),
        ("days=3651", "days"),
        ("days=99999999999999999999", "days"),
        ("days=x", "days"),
        ("days=1.5", "days"),
        ("days=60&timeframe=1m", "days"),
        ("timeframe=2m", "timeframe"),
        ("types=nosuch", "types"),
        ("types=", "types"),
        ("types=,%20,", "types"),
        ("types=double_top;DROP", "types"),
        ("types=%00", "types"),
        ("types=" + "a" * 2001, "types"),
        ("limit=0", "limit"),
        ("limit=5001", "limit"),
        ("order=sideways", "order"),
        ("as_of=yesterday", "as_of"),
        ("dataset=no'such", "dataset"),
        ("colour=red", "colour"),
    ],
)
def test_nonsense_is_named(ask, query, pointer):
    answer = ask("WALK", query)
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {error["pointer"] for error in answer.json["errors"]} == {f"#/query/{pointer}"}


@pytest.mark.parametrize(
    ("symbol", "query", "says"),
    [
        ("NOSUCH", "", "no data of NOSUCH"),
        ("WALK", "as_of=1980-01-01", "had closed by then"),
        ("WALK", "timeframe=1m", "no 1m bars"),
        ("WALK", "dataset=XNAS.ITCH", "XNAS.ITCH"),
        ("AAPL240621C00195000", "", "no data of"),
    ],
)
def test_what_is_not_there_says_so(ask, symbol, query, says):
    answer = ask(symbol, query)
    assert answer.status_code == 404
    assert says in answer.json["detail"]


def test_every_wrong_type_is_named_with_what_there_is():
    with pytest.raises(Problem) as caught:
        parse_types("double_top,nosuch,gaps,worse")
    assert [error.detail.split()[-1] for error in caught.value.errors] == ["'nosuch'", "'worse'"]
    assert caught.value.extra["available"] == list(DETECTORS)
    assert caught.value.extra["families"] == list(FAMILIES)


def test_a_split_is_no_pattern(ask, service, real_data):
    """Apple's real days around 7:1 in 2014 and 4:1 in 2020."""
    with service.working():
        service.imported((real_data / "EQUS.MINI/daily/AAPL.ohlcv-1d.dbn.zst").read_bytes())
    actions = [
        {"kind": "split", "ex_date": day, "numerator": n, "denominator": 1}
        for day, n in (("2014-06-09", 7), ("2020-08-31", 4))
    ]
    posted = service.post("/corporate-actions", json={"symbol": "AAPL", "source": "test", "actions": actions})
    assert posted.status_code == 201, posted.text
    for day in ("2014-06-09", "2020-08-31"):
        after = str(np.datetime64(day) + 21)
        query = f"types=gaps,breakouts,flags,reversals,triangles&days=21&as_of={after}"
        raw = ask("AAPL", f"{query}&adjusted=false").json
        fallen = [e for e in raw["patterns"] if e["type"] in ("gap_down", "breakout_down") and e["end"][:10] == day]
        assert [e["type"] for e in fallen if e["type"] == "gap_down"] == ["gap_down"]
        adjusted = ask("AAPL", query).json
        assert adjusted["adjustment"]["applied"]
        assert not [e for e in adjusted["patterns"] if e["type"] == "gap_down"]
        assert not [e for e in adjusted["patterns"] if e["direction"] == "bearish" and e["confirmed_at"][:10] <= day]


def test_a_later_split_changes_prices_and_no_event(ask, service, real_data):
    before = ask("AAPL", "days=365&limit=5000&as_of=2020-08-30T00:00:00Z").json
    after = ask("AAPL", "days=375&limit=5000&as_of=2020-09-05T00:00:00Z").json
    assert [s["ratio"] for s in before["adjustment"]["splits"]] == ["7:1"]
    assert [s["ratio"] for s in after["adjustment"]["splits"]] == ["7:1", "4:1"]
    told = [e for e in after["patterns"] if before["window"]["after"] < e["confirmed_at"] <= before["as_of"]]
    assert len(told) == before["total"] > 500
    for was, now in zip(before["patterns"], told, strict=True):
        for name in ("type", "direction", "start", "end", "confirmed_at"):
            assert was[name] == now[name]
        for name, level in was["levels"].items():
            assert now["levels"][name] == (None if level is None else pytest.approx(level / 4, abs=1e-5))

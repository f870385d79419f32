"""Chains by HTTP are those priced in process, number by number; and what happens while analytics does not answer."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from ots_analytics.app import create_app
from ots_analytics.settings import AnalyticsSettings
from ots_chains.chains import Moment
from ots_common.times import rfc3339, to_nanoseconds
from ots_market.sessions import xnys
from ots_market.timeframes import MINUTE_NS, Timeframe
from ots_signals.analytics_market import FIELDS, AnalyticsMarket
from ots_signals.backtest import main as backtest_main
from ots_signals.backtest import opened
from ots_signals.market_view import ChainView, NotYet
from ots_signals.stored_market import WORTHLESS_ASK, StoredMarket
from ots_signals.strategies import registered
from served_app import served

KEY = SecretStr("s" * 40)
ELEVEN = to_nanoseconds("2015-12-24T16:00:00Z")
FILES = ("definition", "cbbo-1m", "ohlcv-1m", "statistics")


@pytest.fixture(scope="module")
def goog(market, redis_server, tmp_path_factory, real_data):
    """The real GOOG day."""
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for schema in FILES:
            service.imported((real_data / f"OPRA.PILLAR/GOOG-2015-12-24/{schema}.dbn.zst").read_bytes())
        service.imported((real_data / "EQUS.MINI/GOOG-2015-12-24/ohlcv-1m.dbn.zst").read_bytes())
    return market


@pytest.fixture(scope="module")
def stored(goog):
    return StoredMarket(goog.database, source="databento", calendar="xnys")


@pytest.fixture(scope="module")
def app(goog, redis_server):
    return create_app(
        AnalyticsSettings(
            database_url=goog.reader, redis_url=redis_server.url, accept_keys={"signals": KEY}, log_level="ERROR"
        )
    )


@pytest.fixture(scope="module")
def url(app):
    with served(app) as address:
        yield address


def market_at(stored, url, timeout_s=60.0, keys=None):
    return AnalyticsMarket(stored, url, {"analytics": KEY} if keys is None else keys, timeout_s=timeout_s)


@pytest.mark.parametrize("minutes", [-88, 0, 500])
def test_the_chain_that_is_answered_is_the_chain_that_is_computed(stored, url, minutes):
    at_ns = ELEVEN + minutes * MINUTE_NS
    answered, computed = market_at(stored, url).chain("GOOG", at_ns), stored.chain("GOOG", at_ns)
    assert len(computed) > 1900
    for field in dataclasses.fields(ChainView):
        one, other = getattr(answered, field.name), getattr(computed, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype.kind == other.dtype.kind, field.name
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert one == other, field.name


def test_what_a_chain_says_of_the_real_day(stored):
    chain = stored.chain("GOOG", ELEVEN)
    assert len(chain) == 2192
    assert chain.spot == pytest.approx(749.23)
    near = np.flatnonzero((chain.strike == 750) & (chain.expiration == np.datetime64("2015-12-31")))
    assert np.nanmean(chain.implied_volatility[near]) == pytest.approx(0.16, abs=0.02)
    assert (chain.delta[chain.right > 0][np.isfinite(chain.delta[chain.right > 0])] >= 0).all()
    # units of ots_quant: a year, and 1.00 of volatility
    at_the_money = near[0]
    assert chain.theta[at_the_money] < -30
    assert chain.vega[at_the_money] > 20


def test_the_tape_of_the_real_day_reads_once_what_a_chain_would_say_each_minute(stored):
    chain = stored.chain("GOOG", ELEVEN)
    symbols = chain.symbol.tolist()
    tape = stored.tape("GOOG", symbols, ELEVEN, ELEVEN + 30 * MINUTE_NS)
    assert tape.bid.shape == (2192, 30)
    for column in (0, 29):
        then = stored.chain("GOOG", int(tape.ends[column]))
        assert then.symbol.tolist() == symbols
        told = (then.bid > 0) | (then.ask <= WORTHLESS_ASK)
        assert told.mean() > 0.6
        np.testing.assert_array_equal(tape.bid[:, column], then.bid)
        np.testing.assert_array_equal(tape.ask[:, column], np.where(told, then.ask, 0))
        assert tape.spot[column] == then.spot


def test_the_real_day_runs_through_a_backtest_and_is_too_little(goog, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DATABASE_URL", goog.reader)
    opened.cache_clear()
    arguments = ["--strategy", "all", "--start", "2015-12-01", "--end", "2015-12-31", "--processes", "1"]
    for folder in ("once", "again"):
        assert backtest_main([*arguments, "--out", str(tmp_path / folder)]) == 0
    once, again = ((tmp_path / folder / "report.json").read_bytes() for folder in ("once", "again"))
    assert once == again
    report = json.loads(once)
    assert report["invented"] is None
    assert report["sessions"] == {"first": "2015-12-24", "last": "2015-12-24", "count": 1}
    assert report["underlyings"] == ["GOOG"]
    assert sum(one["signals"] + sum(one["abstentions"].values()) for one in report["strategies"]) > 2
    found = [one["performance"] for one in report["strategies"] if one["performance"]]
    assert found
    assert {one["verdict"]["verdict"] for one in found} == {"insufficient_data"}
    # this role may not add to the table of trials: a file beside the report has them, each once
    trials = (tmp_path / "again" / "trials.jsonl").read_text().splitlines()
    assert len(trials) == len(registered()) == report["trials"]["counted"]
    opened.cache_clear()


def test_everything_but_the_chain_is_what_is_stored(stored, url):
    live = market_at(stored, url)
    assert (live.source, live.sessions) == (stored.source, stored.sessions)
    session = Moment.at(xnys(), ELEVEN).session
    one, other = (m.bars("GOOG", Timeframe.M5, session, 2, ELEVEN) for m in (live, stored))
    assert one.close.tolist() == other.close.tolist()
    assert len(live.daily_volatility("GOOG", ELEVEN).dates) == 0


def test_an_underlying_without_options_has_an_empty_chain(stored, url):
    chain = market_at(stored, url).chain("NOBODY", ELEVEN)
    assert len(chain) == 0
    assert (chain.at_ns, chain.source) == (ELEVEN, "databento")
    assert chain.digest == stored.chain("NOBODY", ELEVEN).digest


@contextmanager
def keeping_connections(body, *answers):
    """A server that keeps its connections: the k-th gives ``answers[k]`` answers, and hangs up on the next question.

    Yields its address and the list of questions, by connection.
    """
    questions = []

    def serve(server):
        for count in answers:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            questions.append(0)
            with connection:
                while connection.recv(65536):
                    questions[-1] += 1
                    if questions[-1] > count:
                        break
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                    connection.sendall(head.encode() + body)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", questions


@pytest.fixture(scope="module")
def body(stored, url):
    """What analytics answers about eleven o'clock."""
    market = market_at(stored, url)
    return market._get(f"/api/v1/analytics/options/GOOG?as_of={rfc3339(ELEVEN)}&fields={FIELDS}")[1]


def test_a_connection_that_broke_is_made_anew(stored, body):
    with keeping_connections(body, 2, 1) as (address, questions):
        market = market_at(stored, address)
        found = {market.chain("GOOG", ELEVEN).digest for _ in range(3)}
        assert found == {stored.chain("GOOG", ELEVEN).digest}
        # the third question was asked on the old connection, and again on a new one
        assert questions == [3, 1]
        market.close()


def test_it_is_made_anew_once_and_not_for_ever(stored, body):
    with keeping_connections(body, 1, 0, 1) as (address, questions):
        market = market_at(stored, address)
        market.chain("GOOG", ELEVEN)
        with pytest.raises(NotYet, match="does not answer"):
            market.chain("GOOG", ELEVEN)
        assert questions == [2, 1]
        # whoever asks again later is answered
        assert len(market.chain("GOOG", ELEVEN)) == 2192


def test_an_analytics_that_says_nothing_is_not_waited_for_longer_than_told(stored):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        market = market_at(stored, f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(NotYet, match="did not answer within"):
            market.chain("GOOG", ELEVEN)


def test_one_whose_clock_is_behind_has_not_come_so_far(stored, url, monkeypatch):
    behind = SimpleNamespace(time_ns=lambda: ELEVEN - 10**9, monotonic_ns=time.monotonic_ns)
    monkeypatch.setattr("ots_analytics.desk.time", behind)
    with pytest.raises(NotYet, match=rfc3339(ELEVEN)):
        market_at(stored, url).chain("GOOG", ELEVEN)
    assert len(market_at(stored, url).chain("GOOG", ELEVEN - MINUTE_NS)) == 2192


def test_a_refusal_is_no_reason_to_skip_an_event(stored, url):
    with pytest.raises(NotYet, match="401"):
        market_at(stored, url, keys={"analytics": SecretStr("t" * 40)}).chain("GOOG", ELEVEN)
    with pytest.raises(KeyError, match="no key"):
        market_at(stored, url, keys={})


def test_an_answer_about_another_market_is_none(goog, url):
    simulated = StoredMarket(goog.database, source="simulated", calendar="xnys")
    with pytest.raises(ValueError, match="databento"):
        market_at(simulated, url).chain("GOOG", ELEVEN)

"""The running platform over HTTP, and nothing but HTTP.

By default two are started natively on free ports, one after the other: with the simulated market, as
``./start-dev.sh`` does, and with real data, where files are imported. ``OTS_BASE_URL`` and ``OTS_ADMIN_PASSWORD`` point
the suite to one that runs already, such as Compose's: what does not go with its market is skipped, and what was
imported stays (symbols ``TST...``).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import talib
from databento_dbn import RType, Schema

from dbn import DAY, MINUTE, bar, dbn_file, midnight, quote, trade
from ots_native.platform import Platform
from ots_native.processes import processes_of
from ots_native.settings import Ports
from ots_quant import patterns

ROOT = Path(__file__).resolve().parent.parent
DBN = "application/vnd.databento.dbn"
DAY0 = date(2024, 3, 4)  # a Monday
OPEN = midnight(DAY0) + 14 * 3600 * 10**9 + 30 * MINUTE

pytestmark = pytest.mark.platform


class Client:
    """A user of the platform, in each of the roles."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        self._password = password
        self._tokens: dict[str, str] = {}

    def token(self, role: str) -> str:
        if role not in self._tokens:
            body = {"username": "admin", "password": self._password, "role": role}
            answer = requests.post(f"{self.url}/api/v1/auth/login", json=body, timeout=30)
            assert answer.status_code == 200, answer.text
            self._tokens[role] = answer.json()["access_token"]
        return self._tokens[role]

    def ask(self, method: str, path: str, role: str = "viewer", **arguments: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token(role)}", **arguments.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=360, **arguments)

    def get(self, path: str, **arguments: Any) -> Any:
        answer = self.ask("GET", path, **arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, body: Any, wait: float = 120) -> requests.Response:
        return self.ask(
            "POST", f"/api/v1/data/imports?wait={wait}", "operator", data=body, headers={"Content-Type": DBN}
        )

    def imported(self, body: Any) -> dict[str, Any]:
        answer = self.upload(body)
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        assert run["status"] == "done", run
        return run


# a stranger's tour must do with the limits that are the default; a hundred uploads in a minute are no person's
_LIMITS = {"simulated": {}, "databento": {"RATE_LIMIT_SCALE": "20"}}


@contextmanager
def started(folder: Path, source: str) -> Iterator[Platform | None]:
    """A platform of our own with that market; None where the suite was pointed to one, which must have that market."""
    if url := os.environ.get("OTS_BASE_URL"):
        if requests.get(f"{url}/health", timeout=30).json()["market_source"] != source:
            pytest.skip(f"the platform at {url} has another market")
        yield None
        return
    platform = Platform(
        ROOT,
        state=folder / "state",
        env_file=folder / "env",
        ports=Ports.free(),
        environment={**os.environ, "MARKET_SOURCE": source, "DATABENTO_API_KEY": "", **_LIMITS[source]},
        ready_timeout_s=180,
        say=lambda _line: None,
    )
    try:
        platform.up()
        yield platform
    finally:
        platform.reset()


def client_of(platform: Platform | None) -> Client:
    if platform is None:
        return Client(os.environ["OTS_BASE_URL"], os.environ["OTS_ADMIN_PASSWORD"])
    return Client(platform.url, platform.settings.values["ADMIN_PASSWORD"])


@pytest.fixture(scope="class")
def simulated_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform | None]:
    with started(tmp_path_factory.mktemp("simulated"), "simulated") as platform:
        yield platform


@pytest.fixture(scope="class")
def simulated(simulated_platform: Platform | None) -> Client:
    return client_of(simulated_platform)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of the platform with real data."""
    with started(tmp_path_factory.mktemp("platform"), "databento") as platform:
        yield client_of(platform)


def eventually(found: Callable[[], Any], within_s: float) -> Any:
    """What ``found()`` gives as soon as that is true of something."""
    deadline = time.monotonic() + within_s
    while not (result := found()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.3)
    return result


def commands_of(section: str) -> str:
    """The commands of a section of the README as one script, those apart that start a platform."""
    text = (ROOT / "README.md").read_text()
    text = text[text.index(f"## {section}") :]
    return commands_in(text[: text.index("\n## ", 5)])


def commands_in(text: str) -> str:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    # those of ./start-dev.sh, and what changes its .env, are for tests/native/test_start_dev.py
    elsewhere = re.compile(r"start-dev\.sh|^sed -i .* [.]env$")
    return "\n".join(line for line in lines if line.strip() and not elsewhere.search(line))


def run_commands(commands: str, client: Client, data: Path | None = None) -> str:
    """What the commands say; tests/native/test_start_dev.py runs the ones that set TOKEN."""
    script = f"TOKEN={client.token('operator')}\n" + commands.replace("http://localhost:8000", client.url)
    script = script.replace("../shared/data/real", str(data))
    command = ["bash", "-euxo", "pipefail", "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def new_symbol() -> str:
    return f"TST{uuid.uuid4().hex[:6].upper()}"


@pytest.fixture(scope="module")
def symbol(client):
    """120 sessions' worth of daily bars and one morning of trades."""
    symbol = new_symbol()
    chance = np.random.default_rng(7)
    closes = np.round(100 * np.exp(np.cumsum(chance.normal(0, 0.02, 160))), 2)
    bars = [
        bar(midnight(date(2023, 1, 2)) + i * DAY, (c, c + 1, c - 1, c), 1000 + i, rtype=RType.OHLCV_1D)
        for i, c in enumerate(closes.tolist())
    ]
    client.imported(dbn_file(Schema.OHLCV_1D, bars, day=date(2023, 1, 1), days=365, symbols={symbol: 1}))
    trades = [trade(OPEN + s * 10**9, 50 + s % 60 / 100, 10, sequence=s) for s in range(3600)]
    client.imported(dbn_file(Schema.TRADES, trades, symbols={symbol: 1}))
    return symbol


class TestSimulatedMarket:
    """What a stranger meets after ``./start-dev.sh``. First, so that its platform is gone before the next starts."""

    WITHIN_S = 90.0  # promised is a minute, on a machine that does nothing else
    HISTORY_WITHIN_S = 180.0

    def filled(self, client: Client, path: str, name: str | None = None) -> Any:
        """The answer to ``path`` once there is one, with something under ``name``."""

        def answer() -> Any:
            response = client.ask("GET", path)
            body = response.json()
            return body if response.status_code == 200 and (name is None or body[name]) else None

        return eventually(answer, self.WITHIN_S)

    def test_prices_trades_quotes_bars_and_chains_fill_by_themselves(self, simulated):
        for symbol in ("AAPL", "SPY"):
            price = self.filled(simulated, f"/api/v1/cache/stock-prices/{symbol}")
            assert price["price"] > 0
            assert price["source"] == "simulated"
        trades = self.filled(simulated, "/api/v1/data/trades/AAPL?limit=10", "trades")
        quotes = self.filled(simulated, "/api/v1/data/quotes/AAPL?limit=10", "quotes")
        bars = self.filled(simulated, "/api/v1/data/bars/AAPL?timeframe=1m&limit=10", "bars")
        chain = self.filled(simulated, "/api/v1/data/instruments?underlying=AAPL&limit=1000", "instruments")
        assert {answer["source"] for answer in (trades, quotes, bars)} == {"simulated"}
        options = [each for each in chain["instruments"] if each["strike"]]
        assert {each["right"] for each in options} == {"C", "P"}

        def quoted_option() -> bool:
            found = (simulated.ask("GET", f"/api/v1/data/quotes/{each['symbol']}?limit=1") for each in options)
            return any(answer.status_code == 200 and answer.json()["quotes"] for answer in found)

        eventually(quoted_option, self.WITHIN_S)

    def test_a_month_of_history_follows(self, simulated):
        def history() -> list[Any] | None:
            answer = simulated.ask("GET", "/api/v1/data/bars/AAPL?timeframe=1d&limit=100")
            bars = answer.json()["bars"] if answer.status_code == 200 else []
            return bars if len(bars) >= 28 else None

        bars = eventually(history, self.HISTORY_WITHIN_S)
        days = [datetime.fromisoformat(bar["time"]).date() for bar in bars]
        # around the clock: no weekend, no holiday is left out
        assert [(b - a).days for a, b in pairwise(days)] == [1] * (len(days) - 1)
        assert all(bar["low"] <= min(bar["open"], bar["close"]) <= bar["high"] for bar in bars)

    def test_health_and_status_name_the_market(self, simulated):
        assert requests.get(f"{simulated.url}/health", timeout=30).json()["market_source"] == "simulated"
        assert "simulated" in str(simulated.get("/api/v1/data/market-status"))

    def test_no_file_of_real_data_comes_in(self, simulated):
        answer = simulated.upload(dbn_file(Schema.TRADES, [trade(OPEN, 1)]))
        assert answer.status_code == 409
        assert "simulated" in answer.json()["detail"]

    def test_the_tour(self, simulated):
        # the last that the tour asks for to be there
        self.filled(simulated, "/api/v1/analytics/indicators/AAPL?indicators=sma:50&timeframe=1d")
        assert commands_of("A tour").count("curl") >= 12
        assert '"source":"simulated"' in run_commands(commands_of("A tour"), simulated)

    def test_a_month_of_volatility_follows(self, simulated):
        path = "/api/v1/analytics/options/AAPL/volatility-history?days=30"

        def closes() -> list[Any] | None:
            answer = simulated.ask("GET", path)
            found = answer.json()["history"] if answer.status_code == 200 else []
            return found if len(found) >= 25 else None

        eventually(closes, self.HISTORY_WITHIN_S)

    @pytest.mark.parametrize(
        ("document", "least"),
        [
            ("DATA_QUALITY.md", 12), ("VOLATILITY_HISTORY.md", 1), ("OPTIONS.md", 20), ("SCAN.md", 3), ("HTTP.md", 5),
            ("CACHE.md", 8), ("OPERATIONS_MANUAL.md", 9), ("TROUBLESHOOTING.md", 1),
        ],
    )  # fmt: skip
    def test_the_commands_of_the_documents(self, simulated, document, least):
        # the runbooks of the alerts are another test's
        commands = commands_in((ROOT / "docs" / document).read_text().split("\n## Alerts")[0])
        assert commands.count("curl") >= least
        assert run_commands(commands, simulated)

    def test_killed_all_at_once_it_comes_back_and_goes_on_collecting(self, simulated, simulated_platform):
        if simulated_platform is None:
            pytest.skip("not our own platform to kill")
        supervisor = simulated_platform.supervisor
        before = {state.name: state.pid for state in supervisor.states()}
        assert {"simulator", "ingestion-collector", "ingestion-backfiller"} <= set(before)
        newest = simulated.get("/api/v1/cache/stock-prices/AAPL")["as_of"]
        os.kill(int((supervisor.folder / "supervisord.pid").read_text()), signal.SIGKILL)
        eventually(lambda: len([s for s in supervisor.states() if s.runs]) == len(before), 60)
        assert not set(before.values()) & set(processes_of(supervisor.folder, supervisor.data_folders))
        simulated_platform.wait_until_ready()
        price = "/api/v1/cache/stock-prices/AAPL"
        eventually(lambda: (a := simulated.ask("GET", price)).ok and a.json()["as_of"] > newest, self.WITHIN_S)


class TestAPIEndpoints:
    """Every door: what it answers, and what it answers to nonsense."""

    def test_health_names_every_service(self, client):
        body = requests.get(f"{client.url}/health", timeout=30).json()
        assert body["status"] == "ok"
        assert set(body["services"]) == {"cache", "data-ingestion", "analytics", "signals"}
        assert all(service["status"] == "ok" for service in body["services"].values())

    @pytest.mark.parametrize(
        "path",
        ["/api/v1/data/runs", "/api/v1/data/bars/AAPL", "/api/v1/analytics/indicators/AAPL",
         "/api/v1/analytics/patterns/AAPL",
         "/api/v1/cache/stock-prices/AAPL", "/metrics"],
    )  # fmt: skip
    def test_nobody_gets_in_without_a_token(self, client, path):
        answer = requests.get(client.url + path, timeout=30)
        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "start-dev.sh token" in answer.json()["hint"]

    def test_no_default_password(self, client):
        for password in ("admin", "password", "changeme", ""):
            body = {"username": "admin", "password": password}
            answer = requests.post(f"{client.url}/api/v1/auth/login", json=body, timeout=30)
            assert answer.status_code in (401, 422)

    def test_a_viewer_cannot_write(self, client):
        for path in ("/api/v1/data/imports", "/api/v1/data/corporate-actions", "/api/v1/cache/analytics"):
            assert client.ask("POST", path, "viewer", data=b"{}").status_code == 403

    def test_one_request_id_everywhere(self, client):
        answer = client.ask("GET", "/api/v1/data/bars/NOSUCH", headers={"X-Request-ID": "my-request-0001"})
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "my-request-0001"
        assert answer.status_code == 404
        assert "data-ingestion" in answer.headers["Server-Timing"]

    def test_every_wrong_parameter_is_named(self, client):
        answer = client.ask("GET", "/api/v1/data/bars/AAPL?timeframe=2m&limit=0&start=yesterday&colour=red")
        assert answer.status_code == 422
        pointers = {error["pointer"] for error in answer.json()["errors"]}
        assert pointers == {"#/query/timeframe", "#/query/limit", "#/query/start", "#/query/colour"}

    def test_garbage_is_refused_and_leaves_no_run(self, client):
        before = client.get("/api/v1/data/runs?limit=1")["runs"]
        for body in (b"", b"garbage", dbn_file(Schema.TRADES, [trade(OPEN, 1)] * 9)[:-3]):
            answer = client.upload(body)
            assert answer.status_code == 422
            assert "nothing was stored" in answer.json()["detail"]
        assert client.get("/api/v1/data/runs?limit=1")["runs"] == before

    def test_an_import_without_waiting_is_accepted(self, client):
        answer = client.upload(dbn_file(Schema.TRADES, [trade(OPEN, 1)], symbols={new_symbol(): 1}), wait=0)
        assert answer.status_code in (200, 202)
        assert client.get(answer.headers["Location"])["id"] == answer.json()["id"]

    def test_entries_are_a_users_own(self, client):
        key = f"k-{uuid.uuid4().hex}"
        entry = {"key": key, "data": {"note": [1, 2.5, None, "ä"]}, "ttl": 60}
        assert client.ask("POST", "/api/v1/cache/analytics", "trader", json=entry).status_code == 201
        kept = client.get(f"/api/v1/cache/analytics/{key}")
        assert (kept["data"], kept["source"]) == (entry["data"], "user")
        assert client.ask("DELETE", f"/api/v1/cache/analytics/{key}", "trader").status_code == 204
        assert client.ask("GET", f"/api/v1/cache/analytics/{key}").status_code == 404

    def test_metrics_for_an_operator(self, client):
        answer = client.ask("GET", "/metrics", "operator")
        assert answer.status_code == 200
        assert "ots_http_requests_total" in answer.text

    def test_unknown_patterns_are_named_with_what_there_is(self, client):
        answer = client.ask("GET", "/api/v1/analytics/patterns/AAPL?types=double_top,nosuch")
        assert answer.status_code == 422
        assert [error["detail"] for error in answer.json()["errors"]] == ["there is no type or family 'nosuch'"]
        assert {"head_and_shoulders", "doji"} <= set(answer.json()["available"])

    def test_indicators_are_listed(self, client):
        names = {entry["name"] for entry in client.get("/api/v1/analytics/indicators")["indicators"]}
        assert {"sma", "ema", "rsi", "macd", "bollinger", "atr"} <= names


class TestDataProcessing:
    """A file in, the right numbers out."""

    def test_a_file_twice_stores_nothing_twice(self, client):
        body = dbn_file(Schema.TRADES, [trade(OPEN + i, 5, sequence=i) for i in range(500)], symbols={new_symbol(): 1})
        assert [client.imported(body)["stored"] for _ in range(2)] == [500, 0]

    def test_indicators_are_talibs_on_the_same_bars(self, client, symbol):
        bars = client.get(f"/api/v1/data/bars/{symbol}?timeframe=1d&limit=1000")["bars"]
        high, low, close = (np.array([b[name] for b in bars]) for name in ("high", "low", "close"))
        answer = client.get(
            f"/api/v1/analytics/indicators/{symbol}?timeframe=1d&period=20&series=3"
            "&indicators=sma,ema,rsi,macd,bollinger,atr:14"
        )
        line, signal, histogram = talib.MACD(close, 12, 26, 9)
        upper, middle, lower = talib.BBANDS(close, 20, 2, 2)
        expected = {
            "sma": talib.SMA(close, 20),
            "ema": talib.EMA(close, 20),
            "rsi": talib.RSI(close, 20),
            "macd": {"macd": line, "signal": signal, "histogram": histogram},
            "bollinger": {"upper": upper, "middle": middle, "lower": lower},
            "atr": talib.ATR(high, low, close, 14),
        }
        for name, values in expected.items():
            parts = values if isinstance(values, dict) else {None: values}
            for part, array in parts.items():
                newest = answer["indicators"][name] if part is None else answer["indicators"][name][part]
                series = answer["series"][name] if part is None else answer["series"][name][part]
                assert newest == pytest.approx(array[-1], abs=1e-9)
                assert series == pytest.approx(array[-3:], abs=1e-9)
        assert answer["series"]["times"] == [b["time"] for b in bars[-3:]]

    def test_as_of_knows_only_what_had_closed(self, client, symbol):
        url = f"/api/v1/analytics/indicators/{symbol}?timeframe=1d&indicators=sma:2"
        before = client.get(f"{url}&as_of=2023-02-10T23:59:59.999999999Z")
        after = client.get(f"{url}&as_of=2023-02-11T00:00:00Z")
        assert before["as_of"] == "2023-02-10T00:00:00Z"
        assert after["as_of"] == "2023-02-11T00:00:00Z"
        assert before["last_bar"] == "2023-02-09T00:00:00Z"

    def test_patterns_are_the_librarys_on_the_same_bars_and_stay_as_told(self, client, symbol):
        bars = client.get(f"/api/v1/data/bars/{symbol}?timeframe=1d&limit=1000")["bars"]
        columns = [[bar[name] for bar in bars] for name in ("open", "high", "low", "close", "volume")]
        events = patterns.scan(patterns.price_bars(*columns)).events()
        url = f"/api/v1/analytics/patterns/{symbol}?timeframe=1d&days=3650&limit=5000&order=oldest"
        answer = client.get(url)
        assert [(p["type"], p["start"], p["end"]) for p in answer["patterns"]] == [
            (e.detector.name, bars[e.start]["time"], bars[e.end]["time"]) for e in events
        ]
        assert len(events) > 50
        as_of = answer["patterns"][len(events) // 2]["confirmed_at"]
        then = client.get(f"{url}&as_of={as_of}")
        assert then["patterns"] == [p for p in answer["patterns"] if p["confirmed_at"] <= as_of]
        assert client.get(f"{url}&types=gaps,doji")["total"] < len(events)

    def test_bars_of_every_timeframe_come_from_the_trades(self, client, symbol):
        window = "start=2024-03-04T14:30:00Z&end=2024-03-04T15:30:00Z"
        for timeframe, number in (("1m", 60), ("5m", 12), ("15m", 4)):
            bars = client.get(f"/api/v1/data/bars/{symbol}?timeframe={timeframe}&{window}")["bars"]
            assert len(bars) == number
            assert sum(b["volume"] for b in bars) == 36_000
            assert (bars[0]["open"], bars[0]["high"], bars[0]["low"], bars[-1]["close"]) == (50, 50.59, 50, 50.59)

    def test_a_page_at_a_time_gives_everything_once(self, client, symbol):
        for url, name in (
            (f"/api/v1/data/trades/{symbol}?limit=700", "trades"),
            (f"/api/v1/data/bars/{symbol}?timeframe=1m&limit=7", "bars"),
            (f"/api/v1/data/bars/{symbol}?timeframe=5m&limit=5", "bars"),
            (f"/api/v1/data/bars/{symbol}?timeframe=1d&limit=50", "bars"),
        ):
            whole = client.get(re.sub("limit=[0-9]+", "limit=10000", url))[name]
            paged, following = [], url
            while following:
                page = client.get(following)
                paged += page[name]
                following = page["next"]
            assert paged == whole, url

    def test_csv_has_the_values_of_the_json(self, client, symbol):
        url = f"/api/v1/data/bars/{symbol}?timeframe=1d&limit=20"
        rows = client.get(url)["bars"]
        answer = client.ask("GET", url, headers={"Accept": "text/csv"})
        assert answer.headers["Content-Type"].startswith("text/csv")
        header, *lines = answer.text.strip().split("\r\n")
        assert header.split(",") == list(rows[0])
        assert lines == [",".join(str(value) for value in row.values()) for row in rows]

    def test_a_split_is_no_crash(self, client):
        symbol = new_symbol()
        prices = [100.0] * 40 + [25.0] * 40
        bars = [
            bar(midnight(date(2023, 1, 2)) + i * DAY, (c, c, c, c), 100, rtype=RType.OHLCV_1D)
            for i, c in enumerate(prices)
        ]
        client.imported(dbn_file(Schema.OHLCV_1D, bars, day=date(2023, 1, 1), days=365, symbols={symbol: 1}))
        split = {
            "symbol": symbol,
            "source": "test",
            "actions": [{"kind": "split", "ex_date": "2023-02-11", "numerator": 4, "denominator": 1}],
        }
        assert client.ask("POST", "/api/v1/data/corporate-actions", "operator", json=split).status_code == 201
        raw = client.get(f"/api/v1/data/bars/{symbol}?timeframe=1d&adjusted=false")
        adjusted = client.get(f"/api/v1/data/bars/{symbol}?timeframe=1d&adjusted=true")
        assert [b["close"] for b in raw["bars"]] == prices
        assert {b["close"] for b in adjusted["bars"]} == {25.0}
        assert {b["volume"] for b in adjusted["bars"]} == {400, 100}
        assert adjusted["adjustment"]["splits"] == [{"ex_date": "2023-02-11", "ratio": "4:1", "source": "test"}]
        sma = f"/api/v1/analytics/indicators/{symbol}?indicators=sma:60"
        assert client.get(sma)["indicators"]["sma"] == pytest.approx(25.0)
        # before the split nobody knew of it
        known = client.get(f"/api/v1/analytics/indicators/{symbol}?indicators=sma:5&as_of=2023-02-10T12:00:00Z")
        assert known["indicators"]["sma"] == pytest.approx(100.0)
        assert known["adjustment"]["splits"] == []

    def test_the_latest_price_follows_what_is_stored(self, client):
        symbol = new_symbol()
        client.imported(dbn_file(Schema.TRADES, [trade(OPEN, 10.5, 7)], symbols={symbol: 1}))
        first = client.get(f"/api/v1/cache/stock-prices/{symbol}")
        assert (first["price"], first["size"], first["price_kind"]) == (10.5, 7, "trade")
        assert first["as_of"] == "2024-03-04T14:30:00Z"
        assert first["bid"] is None
        client.imported(dbn_file(Schema.TRADES, [trade(OPEN + 1, 11.5)], symbols={symbol: 1}))
        client.imported(dbn_file(Schema.TRADES, [trade(OPEN - 1, 9.5)], symbols={symbol: 1}))
        client.imported(dbn_file(Schema.CBBO_1M, [quote(OPEN, 10, 12)], symbols={symbol: 1}))
        latest = client.get(f"/api/v1/cache/stock-prices/{symbol}")
        assert (latest["price"], latest["bid"], latest["ask"]) == (11.5, 10.0, 12.0)

    @pytest.mark.parametrize(
        ("query", "status", "says"),
        [
            ("indicators=nosuch", 422, "nosuch"),
            ("indicators=sma:5000", 422, "needs 5000"),
            ("as_of=1980-01-01", 404, "closed"),
        ],
    )
    def test_what_cannot_be_computed_says_why(self, client, symbol, query, status, says):
        answer = client.ask("GET", f"/api/v1/analytics/indicators/{symbol}?timeframe=1d&{query}")
        assert answer.status_code == status
        assert says in answer.json()["detail"]

    def test_real_files_are_stored_record_by_record(self, client, real_data):
        files = [
            *sorted(real_data.glob("EQUS.MINI/daily/*.zst")),
            *sorted(real_data.glob("EQUS.MINI/*/ohlcv-1m.dbn.zst")),
            real_data / "EQUS.MINI/SPY-2013-10-07/trades.dbn.zst",
            *sorted(real_data.glob("OPRA.PILLAR/GOOG-2015-12-24/*.zst")),
        ]
        runs = [client.imported(path.read_bytes()) for path in files]
        read: dict[tuple[str, str], int] = {}
        for run in runs:
            assert run["read"] == run["stored"] + run["duplicate"], run
            key = (run["dataset"], run["schema"])
            read[key] = read.get(key, 0) + run["read"]
        assert read == {
            ("EQUS.MINI", "ohlcv-1d"): 15_662,
            ("EQUS.MINI", "ohlcv-1m"): 11_684 + 227,
            ("EQUS.MINI", "trades"): 250_601,
            ("OPRA.PILLAR", "cbbo-1m"): 275_552,
            ("OPRA.PILLAR", "definition"): 2_192,
            ("OPRA.PILLAR", "ohlcv-1m"): 958,
            ("OPRA.PILLAR", "statistics"): 2_058,
        }
        assert sum(client.imported(path.read_bytes())["stored"] for path in files) == 0
        answer = client.get("/api/v1/analytics/indicators/AAPL?period=20&indicators=sma,rsi,macd&timeframe=1m")
        bars, following = [], "/api/v1/data/bars/AAPL?timeframe=1m&limit=1000"
        while following:
            page = client.get(following)
            bars += page["bars"]
            following = page["next"]
        close = np.array([b["close"] for b in bars])
        assert answer["indicators"]["sma"] == pytest.approx(talib.SMA(close, 20)[-1], abs=1e-9)
        assert answer["indicators"]["rsi"] == pytest.approx(talib.RSI(close, 20)[-1], abs=1e-9)
        for name, array in zip(("macd", "signal", "histogram"), talib.MACD(close, 12, 26, 9), strict=True):
            assert answer["indicators"]["macd"][name] == pytest.approx(array[-1], abs=1e-9)
        contracts = client.get("/api/v1/data/instruments?underlying=GOOG&dataset=OPRA.PILLAR&limit=10000")
        assert len(contracts["instruments"]) == 2_192
        session = client.get("/api/v1/data/bars/GOOG?timeframe=1d")
        assert session["as_of"] == "2015-12-24T18:00:00Z"  # the half day's close


class TestPerformance:
    """Right under load and at size; how fast it is belongs to the benchmarks."""

    def test_sixty_four_readers_at_once_get_one_answer(self, client):
        symbol = new_symbol()
        bars = [bar(OPEN + i * MINUTE, (10, 11, 9, 10), 5) for i in range(390)]
        client.imported(dbn_file(Schema.OHLCV_1M, bars, symbols={symbol: 1}))
        url = f"/api/v1/data/bars/{symbol}?timeframe=1m&limit=1000"
        client.token("viewer")
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(client.ask("GET", url))) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [a.status_code for a in answers] == [200] * 64
        assert len({a.text for a in answers}) == 1

    def test_readers_during_an_import_see_whole_batches(self, client):
        symbol = new_symbol()
        body = dbn_file(Schema.TRADES, [trade(OPEN + i, 5, sequence=i) for i in range(500_000)], symbols={symbol: 1})
        answer = client.upload(body, wait=0)
        assert answer.status_code in (200, 202)
        location = answer.headers["Location"]
        while (run := client.get(location))["status"] in ("queued", "running"):
            assert run["read"] % 250_000 == 0  # the records of a transaction
            assert run["read"] == run["stored"]
        assert (run["status"], run["stored"]) == ("done", 500_000)
        price = client.get(f"/api/v1/cache/stock-prices/{symbol}")
        assert price["as_of"] == "2024-03-04T14:30:00.000499999Z"

    def test_uploads_at_once_store_each_record_once(self, client):
        symbols = [new_symbol() for _ in range(4)]
        bodies = [
            dbn_file(Schema.TRADES, [trade(OPEN + i, 5, sequence=i) for i in range(5_000)], symbols={symbol: 1})
            for symbol in symbols
        ]
        runs: list[dict[str, Any]] = []
        client.token("operator")
        threads = [threading.Thread(target=lambda b=body: runs.append(client.imported(b))) for body in bodies * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(run["stored"] for run in runs) == 20_000
        assert sum(run["duplicate"] for run in runs) == 20_000

    def test_the_largest_page_is_whole(self, client):
        symbol = new_symbol()
        client.imported(
            dbn_file(Schema.TRADES, [trade(OPEN + i, 5, sequence=i) for i in range(12_000)], symbols={symbol: 1})
        )
        page = client.get(f"/api/v1/data/trades/{symbol}?limit=10000")
        assert len(page["trades"]) == 10_000
        assert len(client.get(page["next"])["trades"]) == 2_000


class TestDocumentation:
    """Every command of the README works as printed; those of the simulated market above."""

    def test_real_data(self, client, real_data):
        assert commands_of("Real data").count("curl") >= 8
        assert '"source":"databento"' in run_commands(commands_of("Real data"), client, data=real_data)

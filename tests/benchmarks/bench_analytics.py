"""Analytics as a service: ``bench_analytics.py [--only PART] [--requests 10000] [--seconds 6]``.

Parts:

chain: the whole chain of GOOG (real, 2,192 contracts; skipped where the files are missing) and of SPY (simulated,
11,058) at a moment that nobody asked about before, in one process and one thread, from request to body: one SQL
statement for the contracts, American volatilities of bid, mid and ask, Greeks, forwards, a surface, JSON. PostgreSQL
has its pages in memory and runs beside it. Against the same chain done a row at a time over rows of the very same SQL:
QuantLib as its documentation has it (``impliedVolatility`` of an American option, Greeks by differences), QuantLib by
hand (its fast QdFp engine and Brent's method), and vollib (py_vollib; European formulas, which is less work and not
judged). Those are timed on every so many contracts, and scaled up; they are given the carry,
which ours has to find, and fit no surface.

cache: the answer that is kept, through the gateway, 16 clients on as many connections: in a closed loop (wrk: each asks
again at once, so that the time is that of a machine at its limit), and paced (each asks when it is due, and the time
counts from then). The client, two gateways, two analytics, Redis and PostgreSQL share this machine; so what an answer
costs in CPU time stands beside it, which other work on the machine changes little.

indicators: six indicators of nine symbols over 98,280 minutes each, from request to body, one after another; first with
bars that nobody has asked for, packed as ingestion leaves them, then as of other moments after the same bars. Beside
them the first read of bars that are not packed.

memory: of one worker, after 1,000 and after all of mixed requests from four clients.

Figures are medians, of a peer the better of two turns; exit code 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from typing import Any

import harness
import numpy as np
import requests
from analytics_rig import NINE, SPY_CLOSE, AnalyticsRig, Market, internal_headers, pack_bars, running
from gateway_rig import Server, wrk
from harness import Report, versions
from scipy.optimize import brentq

from conftest import REAL_DATA
from ots_analytics.app import create_app
from ots_chains.chains import Moment
from ots_chains.stored_contracts import read_contracts
from ots_common.times import rfc3339, to_nanoseconds
from ots_market.sessions import sessions_of
from ots_quant import warm
from process_memory import memory_kib

ql = harness.peer("QuantLib")
vollib = harness.peer("vollib")

NS = 10**9
GOOG_AT = to_nanoseconds("2015-12-24T16:00:00Z")
CHAIN = "/api/v1/analytics/options"
STAGES = {
    "sql": "SQL",
    "mathematics": "mathematics",
    "rest": "encoding, and all else",
    "cpu": "CPU time of the process",
}
CLIENTS = 16
SAMPLE = 60
MINUTES = 98_280
INDICATORS = "sma:20,ema:20,rsi:14,macd:12:26:9,bollinger:20:2,atr:14"


class InProcess:
    """The service without a network in front of it."""

    def __init__(self, market: Market, **changed: Any) -> None:
        self.client = create_app(market.settings.model_copy(update=changed)).test_client()

    def ask(self, url: str) -> tuple[float, dict[str, float], int]:
        """Seconds, those of the stages (``cpu``: of this process, without PostgreSQL), and the bytes of the body."""
        headers = internal_headers()
        started, used = time.perf_counter(), time.process_time()
        answer = self.client.get(url, headers=headers)
        body = answer.get_data()
        took, used = time.perf_counter() - started, time.process_time() - used
        if answer.status_code != 200:
            raise RuntimeError(answer.text)
        stages = dict(part.split(";dur=") for part in answer.headers.getlist("Server-Timing") if ";dur=" in part)
        return took, {"cpu": used, **{name: float(ms) / 1000 for name, ms in stages.items()}}, len(body)


def chains(report: Report, rig: AnalyticsRig, real: bool) -> None:
    """Cold chains, their stages, and the same by row."""
    report.head("A whole chain, cold, in the service, one core", "chain", "contracts", "what", "ms", "floor / goal")
    if real:
        _chain(report, rig.real, "GOOG (real)", "GOOG", GOOG_AT, floors=(300, 60))
    _chain(report, rig.simulated, "SPY (simulated)", "SPY", SPY_CLOSE - 5 * NS, floors=None)


def _chain(
    report: Report, market: Market, name: str, underlying: str, at_ns: int, floors: tuple[float, float] | None
) -> None:
    service = InProcess(market)
    took, stages, size = [], defaultdict(list), 0
    # each at a moment of its own, so that nothing is kept of it; the first ones fill PostgreSQL's memory
    for turn in range(3 + 15):
        gc.collect()
        seconds, parts, size = service.ask(f"{CHAIN}/{underlying}?as_of={rfc3339(at_ns + turn * 1_000_000)}")
        if turn >= 3:
            took.append(seconds)
            # an answer of more than 5,000 rows is encoded while it is sent: that is what is left
            rest = seconds - parts["sql"] - parts["mathematics"]
            for key, value in {**parts, "rest": rest}.items():
                stages[key].append(value)
    total = statistics.median(took)
    moment = _moment(market, at_ns)
    contracts = read_contracts(
        market.database.database, sessions_of(market.settings.market_calendar), underlying, moment
    )
    n = f"{len(contracts):,}"
    judged = report.judge(total * 1e3, *floors, more_is_better=False) if floors else ""
    report.row(name, n, f"whole, {size / 1e6:.2f} MB (least {min(took) * 1e3:.0f})", f"{total * 1e3:.1f}", judged)
    for key, what in STAGES.items():
        part = statistics.median(stages[key])
        report.row(name, n, what, f"{part * 1e3:.1f}", f"{part / total:.0%}")
    share = (statistics.median(stages["sql"]) + statistics.median(stages["rest"])) / total
    verdict = "goal met" if share <= 0.6 else "goal missed"
    report.row(name, n, "SQL, encoding and all else, share of the whole", f"{share:.0%}", f"goal 60 %: {verdict}")
    for peer, by_row in _PEERS.items():
        seconds_or_none = _by_row(market, underlying, at_ns, by_row)
        if seconds_or_none is None:
            report.row(name, n, f"a row at a time: {peer}", "not installed", "")
            continue
        ratio = seconds_or_none / total
        american = by_row in (_quantlib_row, _quantlib_brent_row)
        floor_goal = report.judge(ratio, 50, 200) if american else "not judged"
        report.row(name, n, f"a row at a time: {peer}", f"{seconds_or_none * 1e3:,.0f}", f"{ratio:.0f}x; {floor_goal}")


def _moment(market: Market, at_ns: int) -> Moment:
    sessions = sessions_of(market.settings.market_calendar)
    index = int(np.searchsorted(sessions.opens, at_ns, side="right")) - 1
    return Moment(at_ns, sessions.date_at(index), int(sessions.opens[index]), int(sessions.closes[index]))


Row = tuple[float, float, float, float, float, float, float, float]
"""right, spot, strike, years, rate, dividend yield, bid, ask."""


def _by_row(
    market: Market, underlying: str, at_ns: int, price: Callable[[Row], dict[str, float | None]]
) -> float | None:
    """Seconds of the chain made with Python objects; the carry is given, which ours has to find."""
    if (vollib if price is _vollib_row else ql) is None:
        return None
    client = InProcess(market).client
    answer = client.get(f"{CHAIN}/{underlying}?as_of={rfc3339(at_ns)}", headers=internal_headers()).json
    carried = {one["expiration"]: one for one in answer["expirations"]}
    spot = answer["spot"]["price"]
    started = time.perf_counter()
    market.database.database.dicts(
        "SELECT i.raw_symbol, i.expiration, i.strike, i.right, q.* FROM instruments i CROSS JOIN LATERAL ("
        " SELECT bid, ask, bid_size, ask_size, ts FROM quotes WHERE instrument_id = i.instrument_id"
        " AND ts >= %(opened)s AND ts <= %(at)s ORDER BY ts DESC LIMIT 1) q"
        " WHERE i.underlying = %(underlying)s AND i.expiration >= %(session)s ORDER BY expiration, strike, i.right",
        {"underlying": underlying, "at": rfc3339(at_ns), **_session(market, at_ns)},
    )
    fetched = time.perf_counter() - started
    priced = [row for row in answer["contracts"] if row["implied_volatility"] is not None]
    sample = priced[:: max(1, len(priced) // SAMPLE)]
    terms: list[Row] = []
    for row in sample:
        one = carried[row["expiration"]]
        right = 1.0 if row["right"] == "C" else -1.0
        terms.append(
            (right, spot, row["strike"], one["years"], one["rate"], one["dividend_yield"], row["bid"], row["ask"])
        )
    each = math.inf
    for _ in range(2):
        started = time.perf_counter()
        made = [json.dumps({**row, **price(term)}) for row, term in zip(sample, terms, strict=True)]
        each = min(each, (time.perf_counter() - started) / len(made))
    return fetched + each * len(priced)


def _session(market: Market, at_ns: int) -> dict[str, Any]:
    moment = _moment(market, at_ns)
    return {"session": moment.session, "opened": rfc3339(moment.opens_ns)}


class _QuantLibOption:
    """One American contract whose volatility, spot, rate and time can be moved."""

    TODAY = (1, 6, 2020)

    def __init__(self, row: Row) -> None:
        right, spot, strike, years, rate, dividend_yield, _, _ = row
        today = ql.Date(*self.TODAY)
        ql.Settings.instance().evaluationDate = today
        days = max(1, round(years * 365))
        stretch = years / (days / 365)  # it counts whole days
        self._stretch = stretch
        self._spot, self._volatility = ql.SimpleQuote(spot), ql.SimpleQuote(0.3)
        self._rate, self._yield = ql.SimpleQuote(rate * stretch), ql.SimpleQuote(dividend_yield * stretch)
        count, calendar = ql.Actual365Fixed(), ql.NullCalendar()
        process = ql.BlackScholesMertonProcess(
            ql.QuoteHandle(self._spot),
            ql.YieldTermStructureHandle(ql.FlatForward(today, ql.QuoteHandle(self._yield), count)),
            ql.YieldTermStructureHandle(ql.FlatForward(today, ql.QuoteHandle(self._rate), count)),
            ql.BlackVolTermStructureHandle(
                ql.BlackConstantVol(today, calendar, ql.QuoteHandle(self._volatility), count)
            ),
        )
        kind = ql.Option.Call if right > 0 else ql.Option.Put
        self._option = ql.VanillaOption(
            ql.PlainVanillaPayoff(kind, strike), ql.AmericanExercise(today, today + days)
        )  # fmt: skip
        self._process = process
        self._option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.fastScheme()))

    def price(self, volatility: float, spot: float = 0.0, rate: float = 0.0, stretch: float = 1.0) -> float:
        """With the spot and the rate moved by so much, and time stretched."""
        held = self._spot.value(), self._rate.value(), self._yield.value()
        self._volatility.setValue(volatility * math.sqrt(self._stretch * stretch))
        self._spot.setValue(held[0] + spot)
        self._rate.setValue((held[1] + rate * self._stretch) * stretch)
        self._yield.setValue(held[2] * stretch)
        found = self._option.NPV()
        for quote, value in zip((self._spot, self._rate, self._yield), held, strict=True):
            quote.setValue(value)
        return float(found)

    def implied_volatility(self, price: float) -> float:
        """By QuantLib's own method, which takes an engine of finite differences."""
        return float(self._option.impliedVolatility(price, self._process, 1e-6, 100, 0.01, 5.0))


def _quantlib_row(row: Row) -> dict[str, float | None]:
    option = _QuantLibOption(row)
    return _quantlib(row, option, option.implied_volatility)


def _quantlib_brent_row(row: Row) -> dict[str, float | None]:
    option = _QuantLibOption(row)
    return _quantlib(row, option, lambda price: float(brentq(lambda v: option.price(v) - price, 0.01, 5.0, xtol=1e-8)))


def _quantlib(row: Row, option: _QuantLibOption, invert: Callable[[float], float]) -> dict[str, float | None]:
    _, spot, _, years, *_, bid, ask = row

    def implied(price: float | None) -> float | None:
        if price is None:
            return None
        try:
            return invert(price)
        except (ValueError, RuntimeError):
            return None

    mid = implied((bid + ask) / 2)
    bump = 1e-3 * spot
    if mid is None:
        return {"implied_volatility": None}
    middle, up, down = (option.price(mid, spot=move) for move in (0.0, bump, -bump))
    return {
        "implied_volatility": mid,
        "bid_implied_volatility": implied(bid),
        "ask_implied_volatility": implied(ask),
        "delta": (up - down) / (2 * bump),
        "gamma": (up - 2 * middle + down) / bump**2,
        "vega": (option.price(mid + 1e-3) - option.price(mid - 1e-3)) / 2e-3,
        "rho": (option.price(mid, rate=1e-4) - option.price(mid, rate=-1e-4)) / 2e-4,
        "theta": -(middle - option.price(mid, stretch=1 - 1e-3)) / (1e-3 * years),
    }


def _vollib_row(row: Row) -> dict[str, float | None]:
    from vollib.black_scholes_merton.greeks import analytical
    from vollib.black_scholes_merton.implied_volatility import implied_volatility

    right, spot, strike, years, rate, dividend_yield, bid, ask = row
    flag = "c" if right > 0 else "p"

    def implied(price: float | None) -> float | None:
        if price is None:
            return None
        try:
            return float(implied_volatility(price, spot, strike, years, rate, dividend_yield, flag))
        except Exception:  # it raises its own kinds below intrinsic value
            return None

    mid = implied((bid + ask) / 2)
    if not mid:
        return {"implied_volatility": None}
    terms = (flag, spot, strike, years, rate, mid, dividend_yield)
    return {
        "implied_volatility": mid,
        "bid_implied_volatility": implied(bid),
        "ask_implied_volatility": implied(ask),
        **{name: getattr(analytical, name)(*terms) for name in ("delta", "gamma", "theta", "vega", "rho")},
    }


_PEERS: dict[str, Callable[[Row], dict[str, float | None]]] = {
    "QuantLib, American": _quantlib_row,
    "QuantLib by QdFp and Brent, American": _quantlib_brent_row,
    "vollib, European": _vollib_row,
}


def kept(report: Report, rig: AnalyticsRig, seconds: float, real: bool) -> None:
    """The kept answer through the gateway."""
    report.head(
        f"A kept chain through the gateway, {CLIENTS} clients", "chain", "how", "answers/s", "p50 ms", "p99 ms",
        "CPU µs an answer, gateway and analytics", "floor / goal",
    )  # fmt: skip
    # SPY's whole chain is longer than what is kept: it streams, each time anew
    name, market, at = ("GOOG", rig.real, GOOG_AT) if real else ("SPY", rig.simulated, SPY_CLOSE - 5 * NS)
    path = f"{CHAIN}/{name}?as_of={rfc3339(at)}" + ("" if real else "&limit=2192")
    with rig.service(market, workers=2) as service, rig.gateway(service) as gateway:
        zipped = {"Accept-Encoding": "gzip"}
        # who has it and asks again says the same of what it takes
        unchanged = {**zipped, "If-None-Match": _etag(gateway, path)}
        hows = {"gzip": zipped, "identity": {}, "304": unchanged}
        rows = [("paced", _paced, how) for how in hows]
        rows += [("closed loop", _closed_loop, how) for how in ("gzip", "304")]
        for what, load, how in rows:
            used = gateway.cpu_s(), service.cpu_s()
            answers, lasted, p50, p99 = load(gateway, path, hows[how], seconds)
            cpu = [server.cpu_s() - before for server, before in zip((gateway, service), used, strict=True)]
            verdict = report.judge(p99, 20, 8, more_is_better=False) if how == "gzip" else "not judged"
            report.row(
                name, f"{what}, {how}", f"{answers / lasted:.0f}", f"{p50:.1f}", f"{p99:.1f}",
                " and ".join(f"{1e6 * one / answers:.0f}" for one in cpu), verdict,
            )  # fmt: skip


def _etag(gateway: Server, path: str) -> str:
    headers = {"Authorization": f"Bearer {gateway.token}"}
    answer = requests.get(gateway.url + path, headers=headers, timeout=30)
    answer.raise_for_status()
    return answer.headers["ETag"]


def _paced(gateway: Server, path: str, headers: dict[str, str], seconds: float) -> tuple[float, float, float, float]:
    """Each client asks every 0.4 s, not all at once: answers, seconds, p50 and p99 in ms."""
    every = 0.4
    took: list[float] = []
    failed: list[int] = []

    def client(number: int) -> None:
        session = requests.Session()
        session.headers.update({"Authorization": f"Bearer {gateway.token}", "Accept-Encoding": "identity", **headers})
        began = started + number * every / CLIENTS
        for turn in range(int(seconds / every)):
            due = began + turn * every
            time.sleep(max(0.0, due - time.perf_counter()))
            with session.get(gateway.url + path, stream=True, timeout=30) as answer:
                answer.raw.read()
                took.append(time.perf_counter() - due)
                if answer.status_code not in (200, 304):
                    failed.append(answer.status_code)

    started = time.perf_counter() + 0.2
    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lasted = time.perf_counter() - started
    if failed:
        raise RuntimeError(f"{len(failed)} answers failed: {set(failed)}")
    p50, p99 = (float(np.percentile(took, p)) * 1e3 for p in (50, 99))
    return len(took), lasted, p50, p99


def _closed_loop(
    gateway: Server, path: str, headers: dict[str, str], seconds: float
) -> tuple[float, float, float, float]:
    """The same by wrk, without which it is not measured."""
    try:
        load = wrk(gateway, path, CLIENTS, seconds, headers)
    except FileNotFoundError:
        return math.nan, math.nan, math.nan, math.nan
    if load.errors:
        raise RuntimeError(f"{load.errors} answers failed")
    return load.per_second * seconds, seconds, load.p50_ms, load.p99_ms


def indicators(report: Report, rig: AnalyticsRig) -> None:
    """Nine symbols over a year."""
    report.head(
        "Indicators of nine symbols over a year of minutes", "what", "ms", "own CPU ms", "floor / goal"
    )  # fmt: skip
    packed = pack_bars(rig.real)
    first, *again = _indicators(rig, turns=4)
    _indicators_row(report, f"{INDICATORS}: nine requests, their bars read for the first time", first, judged=True)
    middle = sorted(again)[len(again) // 2]
    what = "the same for another moment, the bars remembered under their version"
    _indicators_row(report, what, middle, judged=True)
    rig.real.database.database.execute("DELETE FROM packed_bars")
    # the process is warm by now, which the first one was not
    (rows,) = _indicators(rig, turns=1)
    _indicators_row(report, "bars that no process remembers and that are not packed: a row each", rows, judged=False)
    report.row("to pack them once, all nine symbols", f"{packed * 1e3:.0f}", "", "not judged")


def _indicators(rig: AnalyticsRig, turns: int) -> list[tuple[float, float]]:
    """Seconds, and those of our own CPU, of nine requests each turn, to a service that remembers nothing at first."""
    service = InProcess(rig.real, history_bars=MINUTES)
    took = []
    for turn in range(turns):
        as_of = rfc3339(to_nanoseconds("2025-12-31T22:00:00Z") + (turn + 100 * turns) * NS)
        urls = [
            f"/api/v1/analytics/indicators/{symbol}?indicators={INDICATORS}&timeframe=1m&as_of={as_of}"
            for symbol in NINE
        ]
        asked = [service.ask(url) for url in urls]
        took.append((sum(one[0] for one in asked), sum(one[1]["cpu"] for one in asked)))
    return took


def _indicators_row(report: Report, what: str, took: tuple[float, float], *, judged: bool) -> None:
    wall, cpu = (seconds * 1e3 for seconds in took)
    verdict = report.judge(wall, 300, 100, more_is_better=False) if judged else "not judged"
    report.row(what, f"{wall:.0f}", f"{cpu:.0f}", verdict)


def memory(report: Report, rig: AnalyticsRig, requests_wanted: int, real: bool) -> None:
    """Of a worker that answers mixed requests."""
    report.head("Memory of a worker", "after requests", "MiB", "requests/s", "")
    name, market, at = ("GOOG", rig.real, GOOG_AT) if real else ("SPY", rig.simulated, SPY_CLOSE - 60 * NS)
    with rig.service(market, workers=1) as service:
        marks = [requests_wanted // 10, requests_wanted]
        done, found = 0, []
        for mark in marks:
            began = time.perf_counter()
            _mixed(service, name, at, done, mark)
            found.append(sum(map(memory_kib, service.pids()[1:])) / 1024)  # without the one that forked it
            rate = (mark - done) / (time.perf_counter() - began)
            done = mark
            grown = "" if len(found) < 2 else f"{found[-1] / found[0] - 1:+.1%} since the first mark"
            report.row(f"{mark:,}", f"{found[-1]:.0f}", f"{rate:.0f}", grown)
        flat = found[-1] <= 1.1 * found[0]
        report.met = report.met and flat
        report.row("flat (within 10 %)", "", "", "yes" if flat else "NO")


def _mixed(service: Server, name: str, at_ns: int, first: int, last: int) -> None:
    """By four clients; every twentieth question is about a moment that nobody asked about."""
    numbers = iter(range(first, last))
    lock = threading.Lock()
    failed: list[str] = []

    def client() -> None:
        session, signed, headers = requests.Session(), 0.0, {}
        while not failed:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            if time.monotonic() - signed > 20:
                signed, headers = time.monotonic(), internal_headers()
            url = _question(name, at_ns, number)
            answer = session.get(service.url + url, headers=headers, timeout=60)
            wrong = "colour" in url or url.endswith("/nothing")
            if answer.status_code >= 500 or (answer.status_code >= 400) is not wrong:
                failed.append(f"{answer.status_code} {url} {answer.text[:300]}")

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(failed[0])


def _question(name: str, at_ns: int, number: int) -> str:
    """The same for the same number."""
    about = f"{CHAIN}/{name}"
    moment = f"as_of={rfc3339(at_ns + number % 7 * NS)}"
    if number % 20 == 0:
        return f"{about}?as_of={rfc3339(at_ns + number * 1_000_000)}&fields=symbol,implied_volatility,delta"
    if number % 50 == 1:
        return f"{about}?{moment}&colour=red" if number % 100 == 1 else f"{about}/nothing"
    return [
        f"{about}?{moment}",
        f"{about}?{moment}&right=P&limit=100",
        f"{about}/surface?{moment}",
        f"{about}/skew?{moment}",
        f"{about}/term-structure?{moment}",
        f"{about}/expected-move?{moment}",
        f"{about}/exposure?{moment}",
        f"{about}/open-interest?{moment}",
    ][number % 8]


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("chain", "cache", "indicators", "memory"))
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    wanted = {arguments.only} if arguments.only else {"chain", "cache", "indicators", "memory"}
    real = REAL_DATA.is_dir()
    print(f"# Analytics, {date.today()}: {versions('numpy', 'numba', 'orjson', 'QuantLib', 'vollib')}")
    if not real:
        print(f"no real market data at {REAL_DATA}: GOOG is left out")
    warm.warm()
    report = Report()
    chained = bool(wanted & {"chain", "cache", "memory"})
    with running(goog=real and chained, spy=chained, year="indicators" in wanted) as rig:
        if "chain" in wanted:
            chains(report, rig, real)
        if "indicators" in wanted:
            indicators(report, rig)
        if "cache" in wanted:
            kept(report, rig, arguments.seconds, real)
        if "memory" in wanted:
            memory(report, rig, arguments.requests, real)
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())

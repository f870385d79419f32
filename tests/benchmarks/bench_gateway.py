"""The gateway beside nginx and two Flask gateways: ``bench_gateway.py [--seconds 4] [--rounds 5] [--only PART]``.

One interleaved run on one machine: in each round every gateway gets the same load for the same time, one after another,
and each ratio is taken within its round; printed are medians and ranges of those ratios. Two workers each; ours with
all its features on (tokens, limits in Redis, metrics, JSON access log, audit, request ids); nginx as nothing but a
proxy with kept connections and no log. CPU time per request is of the gateway's own processes. Needs the Debian
packages nginx-light and wrk. wrk, the service behind and the gateways share the machine's cores: read ratios, not
rates.

"all off" is ours without limits and without the access log: verification of tokens, the table, request ids and metrics
have no switch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing.synchronize import Event

from gateway_rig import LARGE, SMALL, WORKERS, Load, Rig, Server, paced, plain_proxy, running, wrk
from harness import Report, versions

CONNECTIONS = (1, 16, 64)
CAREFUL = ("-k", "gthread", "--threads", "8", "--keep-alive", "75")
NAIVE = ("-k", "sync")
OFF = {"RATE_LIMIT_SCALE": "0", "LOG_LEVEL": "ERROR"}
SLOW_CLIENTS = 300
PACE = 200
KILL_LIMIT, KILL_BURST = 60, 30


def measured(server: Server, path: str, connections: int, seconds: float) -> tuple[Load, float]:
    """Load, and the CPU time in microseconds that one request took of the server."""
    before = server.cpu_s()
    load = wrk(server, path, connections, seconds)
    return load, (server.cpu_s() - before) / max(1.0, load.per_second * seconds) * 1e6


def against(report: Report, rig: Rig, servers: list[Server], rounds: int, seconds: float) -> None:
    """Requests a second of ours against each of the others, by size and connections."""
    ours = servers[0]
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path, size in ((SMALL, "1 KB"), (LARGE, "100 KB")):
        report.head(
            f"{size}: requests/s, {rounds} rounds of {seconds:g} s", "connections", "gateway", "requests/s (range)",
            "CPU µs/request", "p50 ms", "p99 ms", "ours / it (range)", "errors",
        )  # fmt: skip
        for connections in CONNECTIONS:
            loads: dict[str, list[Load]] = defaultdict(list)
            cpu: dict[str, list[float]] = defaultdict(list)
            for turn in range(rounds):
                for server in [*servers[turn % len(servers) :], *servers[: turn % len(servers)]]:
                    load, used = measured(server, path, connections, seconds)
                    loads[server.name].append(load)
                    cpu[server.name].append(used)
            for server in servers:
                rates = [load.per_second for load in loads[server.name]]
                each = [
                    mine.per_second / its.per_second
                    for mine, its in zip(loads[ours.name], loads[server.name], strict=True)
                ]
                ratios[size, server.name] += each
                report.row(
                    str(connections), server.name, spread(rates, ",.0f"), f"{statistics.median(cpu[server.name]):.0f}",
                    f"{statistics.median(load.p50_ms for load in loads[server.name]):.2f}",
                    f"{statistics.median(load.p99_ms for load in loads[server.name]):.2f}",
                    "" if server is ours else spread(each, ".2f"), str(sum(load.errors for load in loads[server.name])),
                )  # fmt: skip
    report.head("Ours against each, over all connection counts", "what", "median (range)", "floor / goal")
    for size, name, floor, goal in (
        ("1 KB", "nginx", 0.15, 0.28),
        ("1 KB", "careful", 2.0, 4.0),
        ("1 KB", "naive", 6.0, 10.0),
        ("100 KB", "nginx", 0.4, 0.6),
        ("1 KB", "all off", 0.75, 0.85),
    ):
        found = ratios[size, name]
        report.row(f"{size} against {name}", spread(found, ".2f"), report.judge(statistics.median(found), floor, goal))


def spread(values: list[float], form: str) -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


@contextlib.contextmanager
def slow_clients(port: int) -> Iterator[None]:
    """Clients that begin a request and go on with a byte now and then; a process of their own."""
    stop, ready = multiprocessing.Event(), multiprocessing.Event()
    process = multiprocessing.Process(target=_drip, args=(port, stop, ready))
    process.start()
    try:
        if not ready.wait(10):
            raise RuntimeError("the slow clients did not connect")
        yield
    finally:
        stop.set()
        process.join()


def _drip(port: int, stop: Event, ready: Event) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(SLOW_CLIENTS)]
    for each in held:
        each.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    ready.set()
    while not stop.wait(1.0):
        for each in held:
            with contextlib.suppress(OSError):
                each.send(b"a")
    for each in held:
        each.close()


def slow_connections(report: Report, ours: Server, rounds: int, seconds: float) -> None:
    """The 99th percentile of good requests at a steady rate far below saturation, with and without slow clients."""
    seconds = min(seconds, 8.0)  # a slow head is ended after ten
    report.head(
        f"{SLOW_CLIENTS} slow connections; {PACE}/s beside them", "round", "p99 ms without", "p99 ms with", "ratio"
    )
    without: list[float] = []
    beside: list[float] = []
    for turn in range(2 * rounds):
        alone = paced(ours, SMALL, PACE, seconds)
        with slow_clients(ours.port):
            among = paced(ours, SMALL, PACE, seconds)
        report.row(str(turn + 1), *(f"{x:.2f}" for x in (p99(alone), p99(among), p99(among) / p99(alone))))
        without += alone
        beside += among
    ratio = p99(beside) / p99(without)
    report.row("all", f"{p99(without):.2f}", f"{p99(beside):.2f}", report.judge(ratio, 2.0, 1.2, more_is_better=False))


def p99(took: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(took, n=100)[98]


def redis_killed(report: Report, rig: Rig, ours: Server) -> None:
    """Redis is killed in the middle: what a client sees, what is admitted, and how soon Redis counts again."""
    import redis
    import requests

    statuses: list[tuple[float, int]] = []
    stop = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {ours.token}"
            while not stop.is_set():
                status = session.get(ours.url + SMALL, timeout=10).status_code
                statuses.append((time.monotonic(), status))

    askers = [threading.Thread(target=ask) for _ in range(8)]
    began = time.monotonic()
    for asker in askers:
        asker.start()
    time.sleep(4)
    rig.redis.kill()
    time.sleep(5)
    rig.redis.start()
    back = time.monotonic()
    client = redis.Redis.from_url(rig.redis.url)
    while not any(b"limit:read" in key for key in client.scan_iter()) and time.monotonic() - back < 10:
        time.sleep(0.02)
    normal_s = time.monotonic() - back
    time.sleep(3)
    stop.set()
    for asker in askers:
        asker.join()
    seconds = time.monotonic() - began
    good = sum(status == 200 for _, status in statuses)
    errors = sum(status >= 500 for _, status in statuses)
    allowed = KILL_BURST + KILL_LIMIT * seconds
    report.head("Redis killed for 5 s in a run", "what", "measured", "asked")
    asked = len(statuses) / seconds / KILL_LIMIT
    report.row("asked / limit", f"{asked:.1f}", report.judge(asked, 2, 2))
    report.row("5xx", str(errors), report.judge(errors, 0, 0, more_is_better=False))
    report.row(
        "admitted / limit", f"{good / allowed:.2f}", report.judge(good / allowed, 1.2, 1.2, more_is_better=False)
    )
    report.row("counts in Redis again after, s", f"{normal_s:.2f}", report.judge(normal_s, 5, 5, more_is_better=False))


def main() -> int:
    """Run all of it; 1 when a floor was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4, help="of each load (whole seconds)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("against", "slow", "redis"))
    arguments = parser.parse_args()
    report = Report()
    print(f"{WORKERS} workers each, {os.cpu_count()} cores for all; wrk -t1. {versions('gunicorn', 'gevent', 'flask')}")
    with running() as rig:
        ours = rig.ours()
        if arguments.only in (None, "against"):
            assert rig.upstream is not None
            servers = [
                ours,
                rig.ours("all off", **OFF),
                rig.nginx("nginx", plain_proxy(rig.upstream.url)),
                rig.peer("careful", *CAREFUL),
                rig.peer("naive", *NAIVE),
            ]
            against(report, rig, servers, arguments.rounds, arguments.seconds)
        if arguments.only in (None, "slow"):
            slow_connections(report, ours, arguments.rounds, arguments.seconds)
        if arguments.only in (None, "redis"):
            limits = json.dumps({"read": f"{KILL_LIMIT * 60}/60/{KILL_BURST}"})
            redis_killed(report, rig, rig.ours("limited", RATE_LIMITS=limits))
    print("\nevery floor met" if report.met else "\nA FLOOR WAS MISSED")
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())

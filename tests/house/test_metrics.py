"""Every metric is declared as Prometheus asks for it, documented, and bounded: nobody outside can make a series."""

from __future__ import annotations

import base64
import importlib.util
import re
import sys
from typing import get_args

import pytest
from flask import request
from prometheus_client import REGISTRY, Counter
from pydantic import SecretStr

from ots_analytics.app import create_app as create_analytics
from ots_analytics.metrics import STAGES
from ots_analytics.settings import AnalyticsSettings
from ots_cache.app import create_app as create_cache
from ots_cache.metrics import Operation
from ots_cache.settings import CacheSettings
from ots_common.metrics import METHODS
from ots_common.service import DOCUMENT_PATH
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_gateway.access import GATEWAY, ROUTES
from ots_gateway.app import create_app as create_gateway
from ots_gateway.limits import DEFAULTS
from ots_gateway.metrics import AuthFailure, Refusal, UpstreamFailure
from ots_gateway.settings import GatewaySettings
from ots_ingestion.app import create_app as create_ingestion
from ots_ingestion.gaps import CLOSED_BY
from ots_ingestion.layouts import SCHEMA_IDS
from ots_ingestion.metrics import _DATASETS, OTHER
from ots_ingestion.settings import IngestionSettings
from ots_market.underlyings import UNDERLYINGS, counted_as
from ots_signals.app import create_app as create_signals
from ots_signals.settings import SignalsSettings
from places import ROOT

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
NO_REDIS = "redis://127.0.0.1:1/0"
KEY = SecretStr("k" * 40)
# https://prometheus.io/docs/practices/naming/: base units, in the plural
NOT_BASE = re.compile(
    r"_(ms|millis|milliseconds|us|micros|microseconds|ns|nanoseconds|minutes|hours|days|kb|mb|gb|kib|mib|gib|kilobytes"
    r"|megabytes|gigabytes|bits|percent|percentage|cents|second|byte)(_|$)"
)
# what a scrape adds, and what a histogram or a summary has of its own
RESERVED = {"job", "instance", "le", "quantile", "pid", "__name__"}
WORDS = ("counter", "gauge", "histogram", "summary", "metric")


def generator():
    spec = importlib.util.spec_from_file_location("generate_metrics", ROOT / "docs" / "generate_metrics.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()
DECLARED = GENERATOR.declared()
LABELS = GENERATOR.LABELS


def faults(one):
    """What `promtool check metrics` would say of a metric, and what our own rules do."""
    stem = re.sub(r"_(total|info)$", "", one.name)
    found = {
        "name": not re.fullmatch(r"ots(_[a-z0-9]+)+", one.name),
        "counter without _total": one.kind == "counter" and not one.name.endswith("_total"),
        "_total that is no counter": one.kind != "counter" and one.name.endswith("_total"),
        "suffix of a histogram": bool(re.search(r"_(count|sum|bucket)$", one.name)),
        "no base unit": bool(NOT_BASE.search(one.name)),
        "unit that is not last": any(f"_{unit}_" in stem + "." for unit in ("seconds", "bytes", "ratio")),
        "histogram without a unit": one.kind == "histogram" and not one.name.endswith(("_seconds", "_bytes", "_ratio")),
        "type in the name": any(word in one.name.split("_") for word in WORDS),
        "label in the name": any(f"_by_{label}" in one.name for label in one.labels),
        "no help": len(one.help) < 8 or one.help == one.name,
        "help ends with a full stop or begins small": one.help.endswith(".") or not re.match(r"[A-Z0-9]", one.help),
        "label that is not allowed": bool(set(one.labels) - set(LABELS)),
        "label that is reserved": bool(set(one.labels) & RESERVED),
    }
    return [fault for fault, there in found.items() if there]


@pytest.mark.parametrize("one", DECLARED, ids=lambda one: one.name)
def test_a_metric_is_declared_as_it_must_be(one):
    assert faults(one) == []


def test_the_rules_find_what_breaks_them():
    of = GENERATOR.Declared
    assert faults(of("ots_wait_ms", "histogram", (), "How long", "", "x")) == [
        "no base unit", "histogram without a unit"
    ]  # fmt: skip
    assert faults(of("ots_errors", "counter", (), "Errors of x", "", "x")) == ["counter without _total"]
    assert faults(of("ots_errors_total", "gauge", (), "Errors of x", "", "x")) == ["_total that is no counter"]
    assert faults(of("ots_Errors_total", "counter", ("path",), "errors of x.", "", "x")) == [
        "name", "help ends with a full stop or begins small", "label that is not allowed"
    ]  # fmt: skip
    assert faults(of("ots_size_bytes_left", "gauge", ("le",), "", "", "x")) == [
        "unit that is not last", "no help", "help ends with a full stop or begins small", "label that is not allowed",
        "label that is reserved",
    ]  # fmt: skip


def test_each_is_declared_once_and_found_by_the_generator():
    names = [one.name for one in DECLARED]
    assert sorted(names) == sorted(set(names))
    sources = [path.read_text("utf-8") for path in (ROOT / "services").glob("*/ots_*/**/*.py")]
    written = {name for source in sources for name in re.findall(r"^\s*\"(ots_[a-z0-9_]+)\",", source, re.M)}
    written |= {name for source in sources for name in re.findall(r"[A-Z]\w+\(\"(ots_\w+)\"", source)}
    assert {name for name in written if re.search(r"_(total|seconds|bytes|ratio|info)$", name)} <= set(names)


def test_the_page_of_metrics_is_current():
    current = GENERATOR.TARGET.read_text("utf-8") == GENERATOR.page()
    assert current, "run docs/generate_metrics.py"


def test_gauges_of_services_with_several_workers_are_those_of_the_live_ones():
    """The default adds a label ``pid``: a series a worker that ever lived. What has labels appears where it is set."""
    several = {"ots_common", "ots_gateway", "ots_cache"}
    wrong = [
        one.name
        for one in DECLARED
        if one.kind == "gauge"
        and one.mode  # a collector of our own is of its process only, and none of a service with several workers
        and not one.mode.startswith("live")
        and (one.package in several or not one.labels)
    ]
    assert wrong == []


def test_every_stage_has_its_name():
    sources = (ROOT / "services" / "analytics" / "ots_analytics").rglob("*.py")
    used = {name for source in sources for name in re.findall(r"\bstage\(\"(\w+)\"\)", source.read_text("utf-8"))}
    assert used <= set(STAGES)
    assert len(STAGES) < LABELS["stage"].most


def test_underlyings_are_nine_and_other():
    assert [counted_as(name) for name in UNDERLYINGS] == list(UNDERLYINGS)
    assert {counted_as(name) for name in ("GOOG", "aapl", "", "X" * 100, "AAPL.OPT")} == {"other"}
    assert len(UNDERLYINGS) + 1 == LABELS["underlying"].most


def test_the_bounds_of_labels_are_those_of_the_code():
    services = {route.service for route in ROUTES} - {GATEWAY}
    patterns = {route.pattern for route in ROUTES}
    exact = {"bucket": DEFAULTS, "by": CLOSED_BY, "dataset": {*_DATASETS, OTHER}, "schema": {*SCHEMA_IDS, OTHER}}
    for label, values in exact.items():
        assert LABELS[label].most == len(values), label
    at_most = {
        "reason": max(map(get_args, (AuthFailure, Refusal, UpstreamFailure)), key=len),
        "route": {*patterns, "none", DOCUMENT_PATH},
        "upstream": services,
        "method": {*METHODS, "other"},
        "operation": get_args(Operation),
    }
    for label, values in at_most.items():
        assert len(values) <= LABELS[label].most, label


# --- attacks on the services as they are, but without PostgreSQL and Redis ---


def series():
    """(metric, its labels) of all that this process counts, without the buckets of histograms."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("ots_") and not sample.name.endswith(("_bucket", "_created"))
    }


def app_of(service):
    quiet = {"database_url": NOWHERE, "redis_url": NO_REDIS, "log_level": "ERROR"}
    inside = {**quiet, "accept_keys": {"gateway": KEY}}
    if service == "gateway":
        return create_gateway(
            GatewaySettings(
                **quiet,
                upstreams={"cache": "http://127.0.0.1:1"},
                signing_keys={"cache": KEY},
                jwt_signing_key=base64.urlsafe_b64encode(bytes(32)).decode(),
                metrics_token="m" * 32,
                allowed_hosts=["localhost"],
                rate_limit_scale=1000,  # a limit that is reached makes other series, few and not by their name
            )
        )
    if service == "analytics":
        return create_analytics(AnalyticsSettings(**inside))
    if service == "signals":
        return create_signals(SignalsSettings(**inside))
    if service == "cache":
        return create_cache(CacheSettings(**inside))
    return create_ingestion(IngestionSettings(**inside, spool_dir="/nowhere"))


class Attacker:
    """Sends a service all that it has routes for, and more, with words in it that were never seen before."""

    def __init__(self, service, app):
        self.service, self.client = service, app.test_client()
        self.sent = self.words = 0
        self.mark = ""

    def word(self):
        self.words += 1
        return f"{self.mark}{self.words}"

    def ask(self, method, path, headers=None, **more):
        caller = Caller("gateway", self.word(), self.word(), "admin", self.word() + "-12345678")
        token = {}
        if self.service != "gateway":
            token[HEADER] = sign_internal_token(caller, self.service, {self.service: KEY})
        headers = {"Host": "localhost", "X-Request-ID": f"{self.word()}-12345678", **token, **(headers or {})}
        self.client.open(path, method=method, headers=headers, **more)
        self.sent += 1

    def attack(self, mark):
        self.mark = mark
        for route in ROUTES:
            if route.service == self.service:
                path = re.sub(r"\{\w+\}", lambda _: self.word(), route.pattern)
                self.ask(route.method, path)
                self.ask(route.method, f"{path}?{self.word()}={self.word()}&symbols={self.word()}&as_of={self.word()}")
                self.ask(route.method, path, json={self.word(): self.word(), "symbol": self.word()})
                self.ask(route.method, path, {"Authorization": f"Bearer {self.word()}", "X-API-Key": self.word()})
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", self.word().upper()):
            for path in (self.word(), f"{self.word()}/../{self.word()}", f"api/v1/{self.word()}", "metrics", "/"):
                self.ask(method, f"/{path}")
        for _ in range(20):
            self.ask("GET", "/health/live", {"Host": f"{self.word()}.example"})
            self.ask("GET", "/health/live", {self.word(): self.word(), "User-Agent": self.word()})
            self.ask("POST", "/api/v1/auth/login", json={"username": self.word(), "password": self.word()})
            self.ask("GET", f"/api/v1/analytics/indicators/{self.word()}?indicators={self.word()}")


@pytest.mark.parametrize("service", ["gateway", "cache", "analytics", "data-ingestion", "signals"])
def test_whatever_is_sent_makes_no_series(service):
    app = app_of(service)
    attacker = Attacker(service, app)
    attacker.attack("first")
    before, sent = series(), attacker.sent
    attacker.attack("zqx")
    found = series()
    assert attacker.sent == 2 * sent
    assert sent > 150
    assert not [one for one in found if "zqx" in str(one).lower()]
    # a label with a value that was sent would have made hundreds; some come with time, such as a level of the log
    assert len(found - before) < 10

    requests = [dict(labels) for name, labels in found if name == "ots_http_requests_total"]
    own = [labels for labels in requests if labels["service"] == service]
    patterns = {rule.rule for rule in app.url_map.iter_rules()} | {route.pattern for route in ROUTES} | {"none"}
    for label, allowed in (("route", patterns), ("method", {*METHODS, "other"})):
        values = {labels[label] for labels in own}
        assert values <= allowed
        assert 1 < len(values) <= LABELS[label].most
    assert len({labels["status"] for labels in own}) <= LABELS["status"].most


def test_an_attack_finds_what_has_no_bound():
    loose = Counter("ots_loose_total", "By a path, as it must not be", ["path"])
    app = app_of("cache")

    @app.after_request
    def count(response):
        loose.labels(request.path).inc()
        return response

    try:
        attacker = Attacker("cache", app)
        attacker.attack("first")
        before = series()
        attacker.attack("zqx")
        assert len([name for name, _ in series() - before if name == "ots_loose_total"]) > 30
    finally:
        REGISTRY.unregister(loose)

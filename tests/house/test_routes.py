"""Deny by default: every route of every service has a row in the gateway's table, and every row leads somewhere."""

import base64
import re

import pytest

from ots_analytics.app import create_app as create_analytics
from ots_analytics.settings import AnalyticsSettings
from ots_cache.app import create_app as create_cache
from ots_cache.settings import CacheSettings
from ots_common.service import OPEN_ENDPOINTS
from ots_gateway.access import GATEWAY, ROUTES
from ots_gateway.app import create_app as create_gateway
from ots_gateway.limits import DEFAULTS, PER_ADDRESS
from ots_gateway.settings import GatewaySettings
from ots_ingestion.app import create_app as create_ingestion
from ots_ingestion.settings import IngestionSettings
from ots_signals.app import create_app as create_signals
from ots_signals.settings import SignalsSettings
from places import ROOT

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
DOCUMENTS = "/openapi/"


def apps():
    return {
        "analytics": create_analytics(AnalyticsSettings(database_url=NOWHERE)),
        "cache": create_cache(CacheSettings(database_url=NOWHERE)),
        "data-ingestion": create_ingestion(IngestionSettings(database_url=NOWHERE, spool_dir="/nowhere")),
        "signals": create_signals(SignalsSettings(database_url=NOWHERE)),
    }


def declared(app):
    found = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint in OPEN_ENDPOINTS or rule.rule.startswith(DOCUMENTS) or rule.endpoint == "static":
            continue
        pattern = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        found |= {(method, pattern) for method in rule.methods - {"HEAD", "OPTIONS"}}
    return found


@pytest.mark.parametrize("service", ["analytics", "cache", "data-ingestion", "signals"])
def test_table_and_service_agree(service):
    rows = {(route.method, route.pattern) for route in ROUTES if route.service == service}
    assert declared(apps()[service]) == rows


def test_only_what_must_be_is_open_to_anybody():
    assert {route.pattern for route in ROUTES if route.role is None} == {
        "/health", "/health/live", "/version", "/metrics", "/api/v1/auth/login", "/api/v1/auth/refresh",
        "/.well-known/jwks.json", "/docs", "/docs/{asset}", "/api/v1/openapi.json",
    }  # fmt: skip
    assert all(route.role is not None for route in ROUTES if route.service != GATEWAY)


def test_writes_need_more_than_a_viewer():
    for_viewers = {
        route.pattern
        for route in ROUTES
        if route.method != "GET" and route.service != GATEWAY and (route.role is None or route.role.label == "viewer")
    }
    # questions too long for a URL: they are computed of what they bring, and nothing is kept
    assert for_viewers == {
        "/api/v1/analytics/custom", "/api/v1/analytics/options/price", "/api/v1/analytics/options/implied-volatility",
        "/api/v1/analytics/options/strategies/analyze",
    }  # fmt: skip
    assert all(route.only_computes for route in ROUTES if route.pattern in for_viewers)


def test_every_row_says_what_it_may_cost():
    for route in ROUTES:
        assert (route.cost > 0, route.timeout_s > 0, route.body_limit >= 0) == (True, True, True), route
        assert route.body_limit == 0 or route.method in ("POST", "PUT", "PATCH"), route
        assert not route.idempotent or (route.method == "POST" and route.service != GATEWAY), route
        assert route.bucket in DEFAULTS, route
        assert (route.bucket in PER_ADDRESS) == (route.role is None) or route.pattern.endswith("/password"), route


def test_the_views_of_the_gateway_are_the_rows_of_the_gateway():
    settings = GatewaySettings(
        database_url=NOWHERE,
        upstreams={"cache": "http://127.0.0.1:1"},
        signing_keys={"cache": "k" * 32},
        jwt_signing_key=base64.urlsafe_b64encode(bytes(32)).decode(),
        metrics_token="m" * 32,
    )
    rows = {(route.method, route.pattern) for route in ROUTES if route.service == GATEWAY}
    own = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in create_gateway(settings).url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    assert own == rows


@pytest.mark.parametrize("service", ["analytics", "cache", "data_ingestion", "api_gateway", "signals"])
def test_no_two_models_of_a_service_have_one_name(service):
    """A service's OpenAPI document knows a model by its name only: of two, one would be described as the other."""
    sources = (ROOT / "services" / service.replace("_", "-")).glob("ots_*/**/*.py")
    names = [name for source in sources for name in re.findall(r"^class (\w+Model)\(", source.read_text("utf-8"), re.M)]
    assert sorted(names) == sorted(set(names))

"""The table of routes is the only way in: every role at every route, through the running gateway."""

import pytest

from gateway_support import METRICS_TOKEN
from ots_gateway.access import GATEWAY, ROUTES, Role

ROLES = [None, *Role]
FORWARDED = [route for route in ROUTES if route.service != GATEWAY]


def path_of(route):
    return (
        route.pattern.replace("{symbol}", "AAPL")
        .replace("{key}", "k1")
        .replace("{run_id}", "6f3c0c8e-0000-4000-8000-000000000000")
    )


@pytest.mark.parametrize("role", ROLES, ids=lambda r: r.label if r else "nobody")
@pytest.mark.parametrize("route", FORWARDED, ids=lambda r: f"{r.method} {r.pattern}")
def test_role_at_route(gateway, route, role):
    answer = gateway.ask(route.method, path_of(route), role, data=b"{}" if route.body_limit else None)
    if role is None:
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    elif role < route.role:
        assert answer.status_code == 403
        assert f"--role {route.role.label}" in answer.json()["hint"]
    else:
        assert answer.status_code == 200
        seen = answer.json()
        assert (seen["method"], seen["path"]) == (route.method, path_of(route))
        caller = gateway.caller_of(seen, route.service)
        assert (caller.service, caller.username, caller.role) == ("gateway", "somebody", role.label)
        assert caller.request_id == seen["headers"]["x-request-id"] == answer.headers["X-Request-ID"]
        assert "authorization" not in seen["headers"]
    if answer.status_code != 200:
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/v1", "/api/v1/data", "/api/v1/data/runs/", "/api/v1/data/bars", "/api/v1/data/bars/A/B",
     "/openapi/openapi.json", "/api/v1/auth", "/static/x", "/api/v2/data/runs"],
)  # fmt: skip
def test_what_is_not_in_the_table_does_not_exist(gateway, path):
    answer = gateway.ask("GET", path, Role.ADMIN)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "DELETE"])
def test_a_method_that_is_not_in_the_table_is_never_forwarded(gateway, method):
    answer = gateway.ask(method, "/api/v1/data/runs", Role.ADMIN)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_goes_with_get(gateway):
    answer = gateway.ask("HEAD", "/api/v1/data/runs", Role.VIEWER)
    assert (answer.status_code, answer.content) == (200, b"")


def test_metrics_need_the_scrapers_token_or_an_operator(gateway):
    assert gateway.ask("GET", "/metrics").status_code == 401
    assert gateway.ask("GET", "/metrics", Role.TRADER).status_code == 403
    assert gateway.ask("GET", "/metrics", Role.OPERATOR).status_code == 200
    from_prometheus = gateway.ask("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    assert 'route="/api/v1/data/bars/{symbol}"' in from_prometheus.text
    assert "AAPL" not in from_prometheus.text

"""The table of routes is the only way in: every role, nobody, and every scope at every route, through the gateway."""

import re

import pytest

from gateway_support import METRICS_TOKEN
from ots_gateway.access import GATEWAY, ROUTES, Role
from ots_gateway.api_keys import ApiKeys

ROLES = [None, *Role]
SCOPES = ["market", "analytics", "cache", "control", "account"]
FORWARDED = [route for route in ROUTES if route.service != GATEWAY]
OWN = [route for route in ROUTES if route.service == GATEWAY and route.role is not None]
NAMED = {"symbol": "AAPL", "key": "k1"}


def path_of(route):
    return re.sub(r"\{(\w+)\}", lambda m: NAMED.get(m[1], "6f3c0c8e-0000-4000-8000-000000000000"), route.pattern)


def name_of(route):
    return f"{route.method} {route.pattern}"


def role_name(role):
    return role.label if role else "nobody"


@pytest.fixture(scope="module")
def tokens(gateway):
    return {role: gateway.token(role) for role in ROLES}


@pytest.fixture(scope="module")
def keys(gateway):
    """API keys of an admin, each with one scope."""
    user_id = gateway.person().user_id
    made = ApiKeys(gateway.database)
    return {scope: made.make(user_id, scope, Role.ADMIN, [scope], 1)[1] for scope in SCOPES}


def ask(gateway, route, credential=None):
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    return gateway.ask(route.method, path_of(route), headers=headers, data=b"{}" if route.body_limit else None)


@pytest.mark.parametrize("role", ROLES, ids=role_name)
@pytest.mark.parametrize("route", FORWARDED, ids=name_of)
def test_role_at_a_services_route(gateway, tokens, route, role):
    answer = ask(gateway, route, tokens[role])
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


@pytest.mark.parametrize("role", ROLES, ids=role_name)
@pytest.mark.parametrize("route", OWN, ids=name_of)
def test_role_at_a_route_of_the_gateway(gateway, route, role):
    """A session of its own for each: some of these routes end it."""
    answer = ask(gateway, route, gateway.token(role))
    expected = {401} if role is None else {403} if role < route.role else {200, 201, 204, 404, 409, 422}
    if role is not None and route.pattern == "/api/v1/logs/levels" and role >= route.role:
        expected = {422, 503}  # they are kept in Redis, which this gateway does not have
    assert answer.status_code in expected, answer.text


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("route", FORWARDED, ids=name_of)
def test_scope_at_a_services_route(gateway, keys, route, scope):
    answer = ask(gateway, route, keys[scope])
    assert answer.status_code == (200 if scope == route.scope else 403), answer.text
    if answer.status_code == 403:
        assert answer.json()["type"].endswith(":scope")


@pytest.mark.parametrize(
    ("route", "scope"),
    [(route, scope) for route in OWN for scope in SCOPES if scope != route.scope],
    ids=lambda one: one if isinstance(one, str) else name_of(one),
)
def test_no_other_scope_reaches_a_route_of_the_gateway(gateway, keys, route, scope):
    assert ask(gateway, route, keys[scope]).status_code == 403


@pytest.mark.parametrize("route", [route for route in ROUTES if route.role is None], ids=name_of)
def test_what_is_open_tells_nothing_of_a_user(gateway, route):
    assert ask(gateway, route).status_code in ({401} if route.pattern == "/metrics" else {200, 401, 404, 422, 503})


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

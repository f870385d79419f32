"""More than one may: by body, by header, by token, by somebody else's id.

OWASP API Security Top 10 2023: API1 (object level), API3 (property level), API5 (function level).
"""

import json
import uuid

import pytest

from ots_gateway.access import GATEWAY, ROUTES, Role

PASSWORD = "a long enough passphrase"
ACCOUNT = [r for r in ROUTES if r.service == GATEWAY and r.role is not None]
ADMINS = [r for r in ACCOUNT if r.role == Role.ADMIN]
UNKNOWN = "6f3c0c8e-0000-4000-8000-000000000000"
CLAIMS_TO_BE_ADMIN = [
    {"X-Role": "admin"}, {"X-User-Role": "admin"}, {"X-OTS-Role": "admin"}, {"X-Forwarded-User": "admin"},
    {"X-OTS-Internal": "x"}, {"X-Original-URL": "/health"}, {"X-Rewrite-URL": "/health"}, {"X-Remote-User": "admin"},
    {"X-HTTP-Method-Override": "GET"}, {"Remote-User": "admin"}, {"Cookie": "role=admin; is_admin=1"},
]  # fmt: skip


def bearer(gateway, username, role):
    return {"Authorization": f"Bearer {gateway.token_of(gateway.person(username, role), Role.ADMIN)}"}


def path_of(route):
    return route.pattern.replace("{user_id}", UNKNOWN).replace("{key_id}", UNKNOWN)


@pytest.mark.parametrize(
    "role", [None, Role.VIEWER, Role.TRADER, Role.OPERATOR], ids=lambda r: r.label if r else "nobody"
)
@pytest.mark.parametrize("route", ADMINS, ids=lambda r: f"{r.method} {r.pattern}")
def test_api5_administration_is_for_admins(gateway, route, role):
    answer = gateway.ask(route.method, path_of(route), role, json={} if route.body_limit else None)
    assert answer.status_code == (403 if role else 401)


@pytest.mark.parametrize("headers", CLAIMS_TO_BE_ADMIN, ids=lambda h: next(iter(h)))
def test_api5_no_header_makes_an_admin(gateway, headers):
    mine = bearer(gateway, "no-admin", Role.TRADER)
    assert gateway.ask("GET", "/api/v1/users", headers={**mine, **headers}).status_code == 403
    assert gateway.ask("GET", "/api/v1/users", headers=headers).status_code == 401
    me = gateway.ask("GET", "/api/v1/auth/me", headers={**mine, **headers}).json()
    assert (me["username"], me["role"]) == ("no-admin", "trader")


def test_api5_a_token_of_a_higher_role_than_the_user_has_is_worth_what_the_user_has(gateway):
    """Signed with the real key, even: the role of a token is a ceiling and no grant."""
    mine = bearer(gateway, "no-admin", Role.TRADER)
    assert gateway.ask("GET", "/api/v1/auth/me", headers=mine).json()["role"] == "trader"
    assert gateway.ask("GET", "/api/v1/audit", headers=mine).status_code == 403


@pytest.mark.parametrize(
    "extra",
    [{"user_id": UNKNOWN}, {"disabled": False}, {"is_admin": True}, {"role ": "admin"}, {"Role": "admin"},
     {"password_hash": "x"}, {"created_at": "2020-01-01T00:00:00Z"}, {"__proto__": {"role": "admin"}}],
)  # fmt: skip
def test_api3_a_user_is_made_of_what_a_body_may_say(gateway, extra):
    body = {"username": f"m-{uuid.uuid4().hex[:8]}", "password": PASSWORD, "role": "viewer", **extra}
    assert gateway.ask("POST", "/api/v1/users", Role.ADMIN, json=body).status_code == 422


@pytest.mark.parametrize(
    "extra", [{"username": "admin"}, {"password": PASSWORD}, {"password_hash": "x"}, {"user_id": UNKNOWN}]
)
def test_api3_a_change_changes_what_it_may(gateway, extra):
    person = gateway.person("assigned", Role.VIEWER)
    answer = gateway.ask("PATCH", f"/api/v1/users/{person.user_id}", Role.ADMIN, json={"disabled": False, **extra})
    assert answer.status_code == 422


def test_api3_a_role_said_twice_is_one_role(gateway):
    """A body whose keys are doubled: what is checked is what is stored."""
    name = f"m-{uuid.uuid4().hex[:8]}"
    body = f'{{"username":"{name}","password":"{PASSWORD}","role":"viewer","role":"trader"}}'
    made = gateway.ask("POST", "/api/v1/users", Role.ADMIN, data=body, headers={"Content-Type": "application/json"})
    user = made.json()
    stored = gateway.database.rows("SELECT role FROM users WHERE username = %s", (name,))
    assert stored == [(user["role"],)]


@pytest.mark.parametrize("extra", [{"user_id": UNKNOWN}, {"key": "ots_mine"}, {"prefix": "ots_x"}, {"owner": "admin"}])
def test_api3_a_key_is_made_of_what_a_body_may_say(gateway, extra):
    mine = bearer(gateway, "no-admin", Role.TRADER)
    assert gateway.ask("POST", "/api/v1/keys", headers=mine, json={"name": "k", **extra}).status_code == 422


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN], ids=lambda r: r.label)
def test_api5_nobody_makes_a_key_above_themselves(gateway, role):
    mine = bearer(gateway, "no-admin", Role.TRADER)
    body = {"name": "k", "role": role.label, "scopes": ["account"]}
    assert gateway.ask("POST", "/api/v1/keys", headers=mine, json=body).status_code == 403


def test_api5_nor_above_the_token_they_hold(gateway):
    """A token signed in as a viewer, stolen, must not become a key of the admin whose it is."""
    token = gateway.token_of(gateway.person(), Role.VIEWER)
    body = {"name": "k", "role": "operator"}
    made = gateway.ask("POST", "/api/v1/keys", headers={"Authorization": f"Bearer {token}"}, json=body)
    assert made.status_code == 403


def test_api1_ids_of_others_are_worth_nothing(gateway):
    """Broken object level authorisation, on keys and users: the answer is that of an id that does not exist."""
    owner, thief = bearer(gateway, "owner", Role.TRADER), bearer(gateway, "thief", Role.OPERATOR)
    made = gateway.ask("POST", "/api/v1/keys", headers=owner, json={"name": "mine"}).json()
    taken = gateway.ask("DELETE", f"/api/v1/keys/{made['key_id']}", headers=thief)
    unknown = gateway.ask("DELETE", f"/api/v1/keys/{UNKNOWN}", headers=thief)
    assert taken.status_code == unknown.status_code == 404
    assert _told(taken, made["key_id"]) == _told(unknown, UNKNOWN)
    assert made["key_id"] not in gateway.ask("GET", "/api/v1/keys", headers=thief).text
    owner_id = gateway.person("owner").user_id
    for method, path in (
        ("GET", f"/api/v1/users/{owner_id}"),
        ("GET", f"/api/v1/users/{owner_id}/keys"),
        ("DELETE", f"/api/v1/users/{owner_id}/keys/{made['key_id']}"),
        ("DELETE", f"/api/v1/users/{owner_id}"),
    ):
        assert gateway.ask(method, path, headers=thief).status_code == 403
    assert gateway.ask("GET", "/api/v1/auth/me", headers={"X-API-Key": made["key"]}).status_code in (200, 403)


def _told(answer, own_id):
    return json.dumps({**answer.json(), "request_id": None}).replace(own_id, "ID")


def test_api1_an_admin_names_whose_key_it_is(gateway):
    """The id of another user's key under one's own id is not found."""
    owner = bearer(gateway, "owner", Role.TRADER)
    made = gateway.ask("POST", "/api/v1/keys", headers=owner, json={"name": "mine"}).json()
    other = gateway.person("thief").user_id
    assert gateway.ask("DELETE", f"/api/v1/users/{other}/keys/{made['key_id']}", Role.ADMIN).status_code == 404


@pytest.mark.parametrize("query", ["user_id=" + UNKNOWN, "user=admin", "as=admin", "role=admin"])
def test_api1_ones_own_list_cannot_be_asked_as_another(gateway, query):
    mine = bearer(gateway, "thief", Role.TRADER)
    answer = gateway.ask("GET", f"/api/v1/keys?{query}", headers=mine)
    assert answer.status_code in (200, 422)
    admin = gateway.ask("GET", "/api/v1/keys", Role.ADMIN).json()["keys"]
    assert not any(key["key_id"] in answer.text for key in admin)


@pytest.mark.parametrize(
    "body",
    [
        b'{"username":"x","password":"' + b"a" * 20_000 + b'"}',
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b"[" * 7000,
    ],
    ids=["large", "deep", "deeper"],
)
def test_api4_bodies_have_an_end(gateway, body):
    answer = gateway.ask("POST", "/api/v1/users", Role.ADMIN, data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (413, 422)


@pytest.mark.parametrize(
    "path", ["/api/v1/users", "/api/v1/audit", "/api/v1/keys", "/.well-known/jwks.json", "/api/v1/auth/me"]
)
def test_api8_answers_about_accounts_are_not_kept_by_caches(gateway, path):
    cached = gateway.ask("GET", path, Role.ADMIN).headers["Cache-Control"]
    assert cached == ("public, max-age=300" if "jwks" in path else "no-store")


def test_api3_no_answer_shows_what_is_stored_of_secrets(gateway):
    admin = gateway.person()
    headers = {"Authorization": f"Bearer {gateway.token_of(admin)}"}
    gateway.ask("POST", "/api/v1/keys", headers=headers, json={"name": "k"})
    for path in ("/api/v1/users?limit=1000", "/api/v1/keys", f"/api/v1/users/{admin.user_id}/keys", "/api/v1/audit"):
        text = gateway.ask("GET", path, Role.ADMIN).text
        assert "argon2" not in text
        assert "password_hash" not in text
        assert "key_hash" not in text
        assert "token_hash" not in text


@pytest.mark.parametrize("value", ["' OR '1'='1", "x'; DROP TABLE users; --", "%", "_", "$1", "\\"])
def test_api8_injection_finds_nothing(gateway, value):
    assert gateway.ask("GET", "/api/v1/audit", Role.ADMIN, params={"user": value}).status_code == 422 or value == "_"
    login = gateway.ask("POST", "/api/v1/auth/login", json={"username": value, "password": value})
    assert login.status_code == 401
    assert gateway.database.rows("SELECT count(*) > 0 FROM users") == [(True,)]

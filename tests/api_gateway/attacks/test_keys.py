"""API keys that are wrong, ended, guessed, or asked for more than keys may (OWASP API2:2023, API5:2023)."""

import secrets

import pytest

from ots_gateway.access import GATEWAY, ROUTES, Role

READ = "/api/v1/data/runs"
UNKNOWN = "6f3c0c8e-0000-4000-8000-000000000000"
ALL = ["market", "analytics", "cache", "control", "account"]


@pytest.fixture(scope="module")
def key(gateway):
    """Of an admin, with every scope: the most that a key can be."""
    person = gateway.person("key-admin", Role.ADMIN)
    made = gateway.ask(
        "POST",
        "/api/v1/keys",
        headers={"Authorization": f"Bearer {gateway.token_of(person)}"},
        json={"name": "all", "role": "admin", "scopes": ALL},
    )
    assert made.status_code == 201
    return made.json()["key"]


def flipped(text, position):
    return text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]


WRONG = {
    "empty": lambda k: "",
    "its first part": lambda k: k[:12],
    "shorter": lambda k: k[:-1],
    "longer": lambda k: k + "A",
    "one character": lambda k: flipped(k, 30),
    "another name": lambda k: "ots_aaaaaaaa" + k[12:],
    "capitals": lambda k: k.upper(),
    "guessed": lambda k: "ots_aaaaaaaa_" + secrets.token_urlsafe(32),
    "SQL": lambda k: "ots_' OR 1=1 --",
    "a hash": lambda k: "0" * 64,
    "two": lambda k: f"{k},{k}",
    "not ASCII": lambda k: k[:-1] + "\xe9",
}


def test_the_key_that_attacks_start_from_works(gateway, key):
    assert gateway.ask("GET", READ, headers={"X-API-Key": key}).status_code == 200
    assert gateway.ask("GET", "/api/v1/users", headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("wrong", [w for name, w in WRONG.items()], ids=WRONG)
def test_a_wrong_key(gateway, key, wrong):
    value = wrong(key).encode("latin-1")
    for _ in range(2):
        assert gateway.ask("GET", READ, headers={"X-API-Key": value}).status_code == 401
        assert gateway.ask("GET", READ, headers={"Authorization": b"Bearer " + value}).status_code == 401


def test_a_key_in_the_query_is_no_key(gateway, key):
    """It would be in every log on the way."""
    assert gateway.ask("GET", f"{READ}?api_key={key}").status_code == 401
    assert gateway.ask("GET", f"{READ}?X-API-Key={key}").status_code == 401
    assert gateway.ask("GET", READ, headers={"Cookie": f"X-API-Key={key}"}).status_code == 401


def test_two_credentials_are_none(gateway, key):
    """Whose limits and whose name would it be?"""
    headers = {"X-API-Key": key, "Authorization": f"Bearer {gateway.token(Role.VIEWER)}"}
    assert gateway.ask("GET", READ, headers=headers).status_code == 401


OF_ACCOUNTS = [route for route in ROUTES if route.service == GATEWAY and route.role and route.scope == "account"]
WRITES = [route for route in OF_ACCOUNTS if route.method != "GET"]
BODIES = {
    "/api/v1/users": {"username": "by-a-key", "password": "a long enough passphrase", "role": "admin"},
    "/api/v1/keys": {"name": "by a key", "role": "viewer"},
    "/api/v1/auth/password": {"current_password": "x", "new_password": "a long enough passphrase"},
    "/api/v1/users/{user_id}": {"role": "admin"},
    "/api/v1/users/{user_id}/password": {"new_password": "a long enough passphrase"},
}


@pytest.mark.parametrize("route", WRITES, ids=lambda r: f"{r.method} {r.pattern}")
def test_api5_no_key_makes_keys_or_users_or_changes_passwords(gateway, key, route):
    """However much it may: a leaked key must not outlive its own end."""
    path = route.pattern.replace("{user_id}", UNKNOWN).replace("{key_id}", UNKNOWN)
    body = BODIES.get(route.pattern) if route.method != "DELETE" else None
    answer = gateway.ask(route.method, path, headers={"X-API-Key": key}, json=body)
    assert answer.status_code == 403, answer.text
    assert not gateway.database.rows("SELECT 1 FROM users WHERE username = 'by-a-key'")
    assert not gateway.database.rows("SELECT 1 FROM api_keys WHERE name = 'by a key'")


def test_a_key_is_no_token_of_another_kind(gateway, key):
    assert gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": key}).status_code == 422
    body = {"username": "key-admin", "password": key}
    assert gateway.ask("POST", "/api/v1/auth/login", json=body).status_code == 401


def test_a_key_is_in_no_log(gateway, key):
    gateway.ask("GET", READ, headers={"X-API-Key": key})
    gateway.ask("POST", "/api/v1/keys", headers={"X-API-Key": key}, json={"name": "x"})
    assert key not in gateway.log.read_text()
    assert not gateway.database.rows("SELECT 1 FROM audit_log WHERE row(audit_log.*)::text LIKE %s", (f"%{key[13:]}%",))


@pytest.mark.parametrize("scope", ALL)
def test_api5_a_scope_opens_what_is_in_it_and_nothing_else(gateway, scope):
    """The whole table of routes, with a key of an admin that has one scope."""
    person = gateway.person("scoped", Role.ADMIN)
    made = gateway.ask(
        "POST",
        "/api/v1/keys",
        headers={"Authorization": f"Bearer {gateway.token_of(person)}"},
        json={"name": scope, "role": "admin", "scopes": [scope]},
    ).json()
    for route in ROUTES:
        if route.role is None or (route.service == GATEWAY and route.method != "GET"):
            continue
        path = route.pattern.replace("{user_id}", UNKNOWN).replace("{key_id}", UNKNOWN)
        path = path.replace("{symbol}", "AAPL").replace("{key}", "k").replace("{run_id}", UNKNOWN)
        path = path.replace("{backfill_id}", UNKNOWN).replace("{", "").replace("}", "")
        data = b"{}" if route.body_limit else None
        status = gateway.ask(route.method, path, headers={"X-API-Key": made["key"]}, data=data).status_code
        assert (status == 403) == (route.scope != scope), (route.method, route.pattern, status)

"""API keys: shown once, scoped, expiring, and never more than their owner."""

import hashlib
import re
import time

import pytest

from ots_gateway.access import Role

READ = "/api/v1/data/runs"


def make(gateway, token, **body):
    return gateway.ask(
        "POST", "/api/v1/keys", headers={"Authorization": f"Bearer {token}"}, json={"name": "a program", **body}
    )


def with_key(gateway, key, method="GET", path=READ, **more):
    return gateway.ask(method, path, headers={"X-API-Key": key}, **more)


@pytest.fixture
def token(gateway):
    gateway.database.execute(
        "DELETE FROM api_keys USING users u WHERE u.user_id = api_keys.user_id AND u.username = 'k'"
    )
    return gateway.token_of(gateway.person("k", Role.TRADER), Role.TRADER)


def test_a_key_works_and_is_told_once(gateway, token):
    made = make(gateway, token)
    assert made.status_code == 201, made.text
    body = made.json()
    assert re.fullmatch(r"ots_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", body["key"])
    assert (body["role"], body["scopes"]) == ("viewer", ["analytics", "cache", "market"])
    assert with_key(gateway, body["key"]).status_code == 200
    as_bearer = gateway.ask("GET", READ, headers={"Authorization": f"Bearer {body['key']}"})
    assert as_bearer.status_code == 200
    caller = gateway.caller_of(as_bearer.json(), "data-ingestion")
    assert (caller.username, caller.role) == ("k", "viewer")
    assert not {"authorization", "x-api-key"} & as_bearer.json()["headers"].keys()
    assert "x-api-key" not in with_key(gateway, body["key"]).json()["headers"]
    listed = gateway.ask("GET", "/api/v1/keys", headers={"Authorization": f"Bearer {token}"}).json()["keys"]
    assert [key["key_id"] for key in listed] == [body["key_id"]]
    assert body["key"].startswith(listed[0]["prefix"])
    assert "key" not in listed[0]
    assert listed[0]["last_used_at"] is not None
    stored = gateway.database.rows(
        "SELECT key_hash, row_to_json(k)::text FROM api_keys k WHERE key_id = %s", (body["key_id"],)
    )
    assert bytes(stored[0][0]) == hashlib.sha256(body["key"].encode()).digest()
    assert body["key"] not in stored[0][1]


def test_a_revoked_key_is_refused_everywhere(gateway, token):
    body = make(gateway, token).json()
    for _ in range(6):
        assert with_key(gateway, body["key"]).status_code == 200
    headers = {"Authorization": f"Bearer {token}"}
    assert gateway.ask("DELETE", f"/api/v1/keys/{body['key_id']}", headers=headers).status_code == 204
    assert gateway.until_refused(body["key"])
    assert gateway.ask("DELETE", f"/api/v1/keys/{body['key_id']}", headers=headers).status_code == 404


def test_an_expired_key_is_refused_even_when_remembered(gateway, token):
    body = make(gateway, token).json()
    for _ in range(6):
        assert with_key(gateway, body["key"]).status_code == 200
    gateway.database.execute("UPDATE api_keys SET expires_at = now() WHERE key_id = %s", (body["key_id"],))
    assert gateway.until_refused(body["key"])


def test_a_key_may_no_more_than_its_role(gateway, token):
    viewer = make(gateway, token, role="viewer", scopes=["cache"]).json()["key"]
    trader = make(gateway, token, role="trader", scopes=["cache"]).json()["key"]
    path = "/api/v1/cache/analytics"
    assert with_key(gateway, viewer, "POST", path, data=b"{}").status_code == 403
    assert with_key(gateway, trader, "POST", path, data=b"{}").status_code == 200


def test_a_key_may_no_more_than_its_scopes(gateway, token):
    key = make(gateway, token, scopes=["analytics"]).json()["key"]
    assert with_key(gateway, key, path="/api/v1/analytics/indicators").status_code == 200
    refused = with_key(gateway, key)
    assert refused.status_code == 403
    assert with_key(gateway, key, path="/api/v1/auth/me").status_code == 403


def test_a_key_follows_its_owner_down(gateway):
    person = gateway.person("demoted", Role.TRADER)
    key = make(gateway, gateway.token_of(person), role="trader", scopes=["cache"]).json()["key"]
    path = "/api/v1/cache/analytics"
    assert with_key(gateway, key, "POST", path, data=b"{}").status_code == 200
    gateway.ask("PATCH", f"/api/v1/users/{person.user_id}", Role.ADMIN, json={"role": "viewer"})
    gateway.eventually(lambda: with_key(gateway, key, "POST", path, data=b"{}").status_code == 403)
    gateway.ask("PATCH", f"/api/v1/users/{person.user_id}", Role.ADMIN, json={"disabled": True})
    assert gateway.until_refused(key)


def test_an_admin_sees_and_revokes_anybodys_keys(gateway, token):
    body = make(gateway, token).json()
    user_id = gateway.person("k").user_id
    listed = gateway.ask("GET", f"/api/v1/users/{user_id}/keys", Role.ADMIN).json()["keys"]
    assert body["key_id"] in [key["key_id"] for key in listed]
    revoked = gateway.ask("DELETE", f"/api/v1/users/{user_id}/keys/{body['key_id']}", Role.ADMIN)
    assert revoked.status_code == 204
    assert gateway.until_refused(body["key"])


@pytest.mark.parametrize(
    "body",
    [{"name": ""}, {"name": "x" * 101}, {"name": "a\nb"}, {"scopes": []}, {"scopes": ["everything"]}, {"role": "root"},
     {"expires_in_days": 0}, {"expires_in_days": 366}, {"expires_in_days": 1e9}, {"key": "mine"}, {"key_hash": "00"}],
)  # fmt: skip
def test_what_makes_no_key(gateway, token, body):
    assert make(gateway, token, **body).status_code == 422


def test_there_are_not_more_than_fifty(gateway, token):
    """API4:2023."""
    user_id = gateway.person("k").user_id
    gateway.database.execute(
        "INSERT INTO api_keys (user_id, name, prefix, key_hash, role, scopes, expires_at)"
        " SELECT %s, 'many', 'ots_', sha256(i::text::bytea), 'viewer', '{market}', now() + interval '1 day'"
        " FROM generate_series(1, 50) i",
        (user_id,),
    )
    assert make(gateway, token).status_code == 409
    gateway.database.execute("DELETE FROM api_keys WHERE user_id = %s", (user_id,))


def test_last_used_is_to_the_minute(gateway, token):
    body = make(gateway, token).json()
    before = time.time()
    for _ in range(4):
        with_key(gateway, body["key"])
    rows = gateway.database.rows(
        "SELECT extract(epoch FROM last_used_at) FROM api_keys WHERE key_id = %s", (body["key_id"],)
    )
    assert abs(float(rows[0][0]) - before) < 5

"""Refresh tokens: each works once, and gives the next."""

import hashlib
import time

import pytest

from gateway_support import ADMIN_PASSWORD
from ots_gateway.access import Role

PASSWORD = "a long enough passphrase"


@pytest.fixture
def tokens(gateway):
    return gateway.ask("POST", "/api/v1/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD}).json()


def refresh(gateway, token):
    return gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": token})


def session_of(gateway, refresh_token):
    return gateway.database.rows(
        "SELECT s.session_id::text, s.ended_by FROM sessions s JOIN refresh_tokens USING (session_id)"
        " WHERE token_hash = %s",
        (hashlib.sha256(refresh_token.encode()).digest(),),
    )[0]


def test_each_gives_the_next(gateway, tokens):
    seen = {tokens["refresh_token"]}
    for _ in range(3):
        answer = refresh(gateway, tokens["refresh_token"])
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        tokens = answer.json()
        assert gateway.works(tokens["access_token"])
        seen.add(tokens["refresh_token"])
    assert len(seen) == 4


def test_only_its_hash_is_stored(gateway, tokens):
    stored = gateway.database.rows("SELECT row_to_json(t)::text FROM refresh_tokens t")
    assert not any(tokens["refresh_token"] in row[0] for row in stored)
    assert session_of(gateway, tokens["refresh_token"])[1] is None


def test_it_expires_unused(gateway, tokens):
    gateway.database.execute(
        "UPDATE refresh_tokens SET expires_at = now() WHERE token_hash = %s",
        (hashlib.sha256(tokens["refresh_token"].encode()).digest(),),
    )
    assert refresh(gateway, tokens["refresh_token"]).status_code == 401
    # nobody stole anything: the session stands
    assert session_of(gateway, tokens["refresh_token"])[1] is None


def test_a_session_ends_however_often_it_is_refreshed(gateway, tokens):
    following = refresh(gateway, tokens["refresh_token"]).json()
    session_id, _ = session_of(gateway, following["refresh_token"])
    gateway.database.execute("UPDATE sessions SET expires_at = now() WHERE session_id = %s", (session_id,))
    assert refresh(gateway, following["refresh_token"]).status_code == 401
    assert gateway.until_refused(following["access_token"])


def test_a_token_outlives_its_session_by_nothing(gateway):
    gateway.person("short-session", Role.VIEWER)
    granted = gateway.grant("short-session")
    gateway.database.execute(
        "UPDATE sessions SET expires_at = now() + interval '90 s' WHERE session_id = %s", (granted.session.session_id,)
    )
    body = refresh(gateway, granted.refresh_token).json()
    claims = gateway.authority.verify(body["access_token"])
    assert claims.expires - time.time() < 100
    assert body["refresh_expires_in"] <= 90


def test_a_new_role_shows_in_the_next_token(gateway):
    person = gateway.person("promoted", Role.VIEWER, PASSWORD)
    first = gateway.ask("POST", "/api/v1/auth/login", json={"username": "promoted", "password": PASSWORD}).json()
    gateway.ask("PATCH", f"/api/v1/users/{person.user_id}", Role.ADMIN, json={"role": "operator"})
    # the token in hand stays what it was signed as; the next one is more
    me = gateway.ask("GET", "/api/v1/auth/me", headers={"Authorization": f"Bearer {first['access_token']}"}).json()
    assert me["role"] == "viewer"
    assert refresh(gateway, first["refresh_token"]).json()["role"] == "operator"


@pytest.mark.parametrize(
    "body",
    [{}, {"refresh_token": ""}, {"refresh_token": "x"}, {"refresh_token": "otr_" + "x" * 42}, {"refresh_token": None},
     {"refresh_token": ["otr_" + "x" * 43]}, {"refresh_token": "otr_" + "x" * 43, "role": "admin"}],
)  # fmt: skip
def test_what_is_no_refresh_body(gateway, body):
    assert gateway.ask("POST", "/api/v1/auth/refresh", json=body).status_code == 422


def test_one_that_was_never_given(gateway):
    answer = refresh(gateway, "otr_" + "x" * 43)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")

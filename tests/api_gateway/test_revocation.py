"""What is revoked is refused by every worker, within the bound, whatever it remembers (OWASP API2:2023)."""

import time

import psycopg2
import pytest

from ots_common.problems import Problem
from ots_gateway import authentication
from ots_gateway.access import Role
from ots_gateway.api_keys import ApiKeys
from ots_gateway.authentication import BOUND_S, Authenticator, InvalidTokenError, Watch
from ots_gateway.sessions_of_users import Ended

MANY = 16


def warm(gateway, token):
    """Every worker remembers it."""
    assert all(gateway.works(token) for _ in range(MANY))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET ended_at = now(), ended_by = 'logout' WHERE session_id = %(session)s",
        "UPDATE sessions SET expires_at = now() WHERE session_id = %(session)s",
        "UPDATE users SET disabled = true WHERE user_id = %(user)s",
        "DELETE FROM sessions WHERE session_id = %(session)s",
    ],
)
def test_what_another_gateway_revokes_is_refused_here_while_remembered(gateway, statement):
    person = gateway.person("revoked", Role.TRADER)
    gateway.database.execute("UPDATE users SET disabled = false WHERE username = 'revoked'")
    token = gateway.token_of(person, Role.TRADER)
    warm(gateway, token)
    gateway.database.execute(statement, {"session": person.session_id, "user": person.user_id})
    time.sleep(BOUND_S)
    assert [gateway.works(token) for _ in range(MANY)] == [False] * MANY


def test_a_lesser_role_holds_within_the_bound(gateway):
    person = gateway.person("lowered", Role.ADMIN)
    gateway.database.execute("UPDATE users SET role = 'admin' WHERE username = 'lowered'")
    headers = {"Authorization": f"Bearer {gateway.token_of(person)}"}
    assert all(gateway.ask("GET", "/api/v1/users", headers=headers).status_code == 200 for _ in range(MANY))
    gateway.ask("PATCH", f"/api/v1/users/{person.user_id}", Role.ADMIN, json={"role": "viewer"})
    time.sleep(BOUND_S)
    assert {gateway.ask("GET", "/api/v1/users", headers=headers).status_code for _ in range(MANY)} == {403}
    assert gateway.works(headers["Authorization"].split()[1])


def test_the_others_stay_in(gateway):
    leaving, staying = gateway.person("leaving", Role.VIEWER), gateway.person("staying", Role.VIEWER)
    tokens = [gateway.token_of(person, Role.VIEWER) for person in (leaving, staying)]
    for token in tokens:
        warm(gateway, token)
    gateway.ask("POST", "/api/v1/auth/logout", headers={"Authorization": f"Bearer {tokens[0]}"})
    time.sleep(BOUND_S)
    assert not any(gateway.works(tokens[0]) for _ in range(MANY))
    assert all(gateway.works(tokens[1]) for _ in range(MANY))


@pytest.fixture
def authenticator(gateway):
    """One without its thread: the test says when it looks."""
    sessions, keys = gateway.sessions(), ApiKeys(gateway.database)
    made = Authenticator(gateway.authority, gateway.keys, sessions, keys, Watch(gateway.database, sessions, keys))
    made._start = lambda: None
    yield made
    made.close()


def bearer(gateway, role=Role.VIEWER, person=None):
    return f"Bearer {gateway.token_of(person or gateway.person(), role)}"


def test_what_is_remembered_is_bounded_and_ends(gateway, authenticator, monkeypatch):
    monkeypatch.setattr(authentication, "_REMEMBER_AT_MOST", 3)
    for _ in range(10):
        assert authenticator.authenticate(bearer(gateway), None).username == "somebody"
        assert len(authenticator._remembered) <= 3
    monkeypatch.setattr(authentication, "REMEMBER_S", -1.0)
    person = gateway.person("forgotten", Role.VIEWER)
    header = bearer(gateway, person=person)
    authenticator.authenticate(header, None)
    gateway.sessions().end(person.session_id, Ended.LOGOUT)
    with pytest.raises(InvalidTokenError, match="revoked"):
        authenticator.authenticate(header, None)


class Down:
    """A database that does not answer."""

    def rows(self, *_):
        raise psycopg2.OperationalError("no answer")


def test_without_the_database_the_remembered_are_let_in_for_a_minute_and_nobody_else(
    gateway, authenticator, monkeypatch
):
    known, unknown = bearer(gateway), bearer(gateway)
    authenticator.authenticate(known, None)
    monkeypatch.setattr(authenticator._sessions, "_database", Down())
    monkeypatch.setattr(authenticator._api_keys, "_database", Down())
    assert authenticator.authenticate(known, None).username == "somebody"
    for headers in ((unknown, None), (None, "ots_aaaaaaaa_" + "x" * 43)):
        with pytest.raises(Problem) as told:
            authenticator.authenticate(*headers)
        assert told.value.status == 503
    later = time.time() + authentication.REMEMBER_S + 1
    monkeypatch.setattr(authentication.time, "time", lambda: later)
    with pytest.raises(Problem) as told:
        authenticator.authenticate(known, None)
    assert told.value.status == 503


def test_a_check_drops_what_no_longer_stands_and_nothing_else(gateway, authenticator):
    going, staying = gateway.person("going", Role.VIEWER), gateway.person("staying", Role.VIEWER)
    headers = [bearer(gateway, person=person) for person in (going, staying)]
    for header in headers:
        authenticator.authenticate(header, None)
    gateway.sessions().end(going.session_id, Ended.LOGOUT)
    authenticator.check()
    assert [known.user.username for known in authenticator._remembered.values()] == ["staying"]
    with pytest.raises(InvalidTokenError):
        authenticator.authenticate(headers[0], None)

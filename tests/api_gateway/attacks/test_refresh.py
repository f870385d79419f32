"""Refresh tokens stolen, used twice, used at once, or used as what they are not (OWASP API2:2023)."""

import threading

import pytest

from gateway_support import ADMIN_PASSWORD
from ots_gateway.access import Role

MANY = 24


@pytest.fixture
def tokens(gateway):
    return gateway.ask("POST", "/api/v1/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD}).json()


def refresh(gateway, token, **more):
    return gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": token}, **more)


def test_reuse_ends_the_whole_family(gateway, tokens):
    """The thief was first or the owner was: neither keeps anything."""
    stolen = tokens["refresh_token"]
    thief = refresh(gateway, stolen).json()
    thief = refresh(gateway, thief["refresh_token"]).json()
    assert gateway.works(thief["access_token"])
    assert refresh(gateway, stolen).status_code == 401
    assert refresh(gateway, thief["refresh_token"]).status_code == 401
    assert gateway.until_refused(thief["access_token"])
    assert gateway.until_refused(tokens["access_token"])


def test_reuse_ends_no_other_session(gateway, tokens):
    other = gateway.ask("POST", "/api/v1/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD}).json()
    refresh(gateway, tokens["refresh_token"])
    refresh(gateway, tokens["refresh_token"])
    assert gateway.works(other["access_token"])
    assert refresh(gateway, other["refresh_token"]).status_code == 200


@pytest.mark.parametrize("turn", range(4))
def test_of_many_uses_at_once_exactly_one_wins_and_it_wins_nothing_lasting(gateway, tokens, turn):
    barrier, answers = threading.Barrier(MANY), []

    def use():
        barrier.wait()
        answers.append(refresh(gateway, tokens["refresh_token"]))

    threads = [threading.Thread(target=use) for _ in range(MANY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [answer for answer in answers if answer.status_code == 200]
    lost = [answer for answer in answers if answer.status_code == 401]
    assert (len(won), len(lost)) == (1, MANY - 1), [answer.status_code for answer in answers]
    assert not any("access_token" in answer.text for answer in lost)
    assert refresh(gateway, won[0].json()["refresh_token"]).status_code == 401
    assert gateway.until_refused(won[0].json()["access_token"])
    count = gateway.database.rows(
        "SELECT count(*) FROM refresh_tokens t JOIN sessions s USING (session_id) WHERE s.session_id ="
        " (SELECT sid.session_id FROM sessions sid ORDER BY created_at DESC LIMIT 1) AND used_at IS NULL"
    )[0][0]
    assert count <= 1


def test_a_race_of_sign_out_and_refresh_leaves_no_token(gateway):
    for _ in range(5):
        body = {"username": "admin", "password": ADMIN_PASSWORD}
        tokens = gateway.ask("POST", "/api/v1/auth/login", json=body).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        barrier, answers = threading.Barrier(2), {}

        def ask(name, deed, barrier=barrier, answers=answers):
            barrier.wait()
            answers[name] = deed()

        deeds = {
            "refresh": lambda token=tokens["refresh_token"]: refresh(gateway, token),
            "logout": lambda headers=headers: gateway.ask("POST", "/api/v1/auth/logout", headers=headers),
        }
        threads = [threading.Thread(target=ask, args=item) for item in deeds.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers["logout"].status_code == 204
        if answers["refresh"].status_code == 200:
            following = answers["refresh"].json()
            assert refresh(gateway, following["refresh_token"]).status_code == 401
            assert gateway.until_refused(following["access_token"])


def test_a_refresh_token_is_no_access_token_and_the_other_way_round(gateway, tokens):
    for headers in ({"Authorization": f"Bearer {tokens['refresh_token']}"}, {"X-API-Key": tokens["refresh_token"]}):
        assert gateway.ask("GET", "/api/v1/data/runs", headers=headers).status_code == 401
    assert refresh(gateway, tokens["access_token"]).status_code == 422


def test_it_is_not_taken_from_the_query_or_a_cookie(gateway, tokens):
    url = f"/api/v1/auth/refresh?refresh_token={tokens['refresh_token']}"
    assert gateway.ask("POST", url).status_code == 422
    cookie = {"Cookie": f"refresh_token={tokens['refresh_token']}"}
    assert gateway.ask("POST", "/api/v1/auth/refresh", headers=cookie).status_code == 422
    assert gateway.ask("GET", url).status_code == 405


def test_a_refresh_asks_for_no_more_role(gateway):
    """API3:2023, mass assignment: a role in the body or in a header is an error or nothing."""
    password = "a long enough passphrase"
    gateway.person("refresher", Role.VIEWER, password)
    body = {"username": "refresher", "password": password}
    tokens = gateway.ask("POST", "/api/v1/auth/login", json=body).json()
    asked = gateway.ask(
        "POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"], "role": "admin"}
    )
    assert asked.status_code == 422
    following = refresh(gateway, tokens["refresh_token"], headers={"X-Role": "admin", "X-User-Role": "admin"})
    assert following.json()["role"] == "viewer"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET disabled = true WHERE username = 'ended'",
        "UPDATE sessions SET ended_at = now(), ended_by = 'password' WHERE session_id = %(session)s",
    ],
)
def test_a_refresh_does_not_bring_back_what_ended(gateway, statement):
    gateway.person("ended", Role.VIEWER)
    gateway.database.execute("UPDATE users SET disabled = false WHERE username = 'ended'")
    granted = gateway.grant("ended")
    gateway.database.execute(statement, {"session": granted.session.session_id})
    assert refresh(gateway, granted.refresh_token).status_code == 401

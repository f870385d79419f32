"""Signing in: what it gives, to whom, and that refusals tell nothing."""

import json
import threading

import pytest

from gateway_support import ADMIN_PASSWORD
from ots_gateway.access import Role

PASSWORD = "a long enough passphrase"


def login(gateway, **body):
    return gateway.ask("POST", "/api/v1/auth/login", json=body)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_signing_in_gives_a_token_that_works(gateway):
    answer = login(gateway, username="admin", password=ADMIN_PASSWORD)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"], body["role"]) == ("Bearer", 3600, "admin")
    me = gateway.ask("GET", "/api/v1/auth/me", headers=bearer(body["access_token"])).json()
    assert (me["username"], me["role"], me["credential"], me["scopes"]) == ("admin", "admin", "token", None)


@pytest.mark.parametrize("typed", ["ADMIN", " admin ", "Admin"])
def test_capitals_and_spaces_around_a_username_do_not_matter(gateway, typed):
    assert login(gateway, username=typed, password=ADMIN_PASSWORD).status_code == 200


def test_a_lesser_role_can_be_asked_for_and_lasts_through_refreshes(gateway):
    first = login(gateway, username="admin", password=ADMIN_PASSWORD, role="viewer").json()
    second = gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": first["refresh_token"]}).json()
    for tokens in (first, second):
        assert tokens["role"] == "viewer"
        headers = bearer(tokens["access_token"])
        assert gateway.ask("POST", "/api/v1/cache/analytics", headers=headers, data=b"{}").status_code == 403


def test_a_higher_role_cannot(gateway):
    gateway.person("small", Role.VIEWER, PASSWORD)
    assert login(gateway, username="small", password=PASSWORD, role="admin").status_code == 403
    assert login(gateway, username="small", password=PASSWORD).json()["role"] == "viewer"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"username":1}', b'{"username":"a","password":"b","admin":true}', b"\xff\xfe",
     b'{"username":"\\ud800","password":"b"}', b'{"username":"a","password":"\\ud800"}'],
)  # fmt: skip
def test_a_wrong_login_body_is_a_422(gateway, body):
    answer = gateway.ask("POST", "/api/v1/auth/login", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_huge_login_body_is_refused(gateway):
    answer = gateway.ask("POST", "/api/v1/auth/login", data=b"x" * 20_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_signing_out_ends_the_token_and_its_refresh_token(gateway):
    tokens = login(gateway, username="admin", password=ADMIN_PASSWORD).json()
    other = login(gateway, username="admin", password=ADMIN_PASSWORD).json()
    assert gateway.ask("POST", "/api/v1/auth/logout", headers=bearer(tokens["access_token"])).status_code == 204
    refreshed = gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert refreshed.status_code == 401
    assert gateway.until_refused(tokens["access_token"])
    assert gateway.ask("GET", "/api/v1/auth/me", headers=bearer(other["access_token"])).status_code == 200


def change(gateway, token, current, new):
    return gateway.ask(
        "POST", "/api/v1/auth/password", headers=bearer(token), json={"current_password": current, "new_password": new}
    )


def test_a_password_change_asks_the_old_one_and_ends_other_sessions(gateway):
    gateway.person("changer", Role.TRADER, PASSWORD)
    mine, other = (login(gateway, username="changer", password=PASSWORD).json() for _ in range(2))
    assert change(gateway, mine["access_token"], "not the password", PASSWORD + "!").status_code == 403
    assert change(gateway, mine["access_token"], PASSWORD, PASSWORD + "!").status_code == 204
    assert gateway.until_refused(other["access_token"])
    assert gateway.ask("GET", "/api/v1/auth/me", headers=bearer(mine["access_token"])).status_code == 200
    for tokens, status in ((other, 401), (mine, 200)):
        asked = gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
        assert asked.status_code == status
    assert login(gateway, username="changer", password=PASSWORD).status_code == 401
    assert login(gateway, username="changer", password=PASSWORD + "!").status_code == 200


def test_a_sign_in_that_a_password_change_overtakes_opens_nothing(gateway):
    """Its password was right when it was looked at, and is not when the session would begin."""
    person = gateway.person("overtaken", Role.VIEWER, PASSWORD)
    assert gateway.sessions().open(person.user_id, "the hash of before", None, "tests") is None


def test_a_password_change_ends_keys_where_asked(gateway):
    person = gateway.person("key-holder", Role.TRADER, PASSWORD)
    headers = bearer(gateway.token_of(person))
    keys = [gateway.ask("POST", "/api/v1/keys", headers=headers, json={"name": n}).json()["key"] for n in "ab"]
    body = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    assert gateway.ask("POST", "/api/v1/auth/password", headers=headers, json=body).status_code == 204
    assert all(gateway.works(key) for key in keys)
    body = {"current_password": PASSWORD + "!", "new_password": PASSWORD, "revoke_keys": True}
    assert gateway.ask("POST", "/api/v1/auth/password", headers=headers, json=body).status_code == 204
    assert gateway.until_refused(keys[0])
    assert gateway.until_refused(keys[1])


@pytest.mark.parametrize("new", ["short", "x" * 11, "x" * 40, "x" * 1025, "the-username-itself", "THE-username-itself"])
def test_what_is_no_password(gateway, new):
    person = gateway.person("the-username-itself", Role.VIEWER, PASSWORD)
    answer = change(gateway, gateway.token_of(person), PASSWORD, new)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/body/new_password"]
    assert new not in answer.text or len(new) < 6


def test_the_same_password_in_another_normal_form(gateway):
    """NFKC: composed and decomposed, full width and not."""
    gateway.person("unicode", Role.VIEWER, "pässwörter sind läng")
    assert login(gateway, username="unicode", password="pässwörter sind läng").status_code == 200


def test_too_many_sign_ins_at_once_are_told_to_come_back(start_gateway):
    """API4:2023: argon2 takes 19 MiB and a core; its queue has an end."""
    with start_gateway(1, WORKERS="1", PASSWORDS_AT_ONCE="1", PASSWORDS_WAITING="2") as running:
        answers = []

        def ask():
            answers.append(login(running, username="nobody-at-all", password="x"))

        askers = [threading.Thread(target=ask) for _ in range(40)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {401, 503}
        assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 503)
        # and it recovers
        assert login(running, username="admin", password=ADMIN_PASSWORD).status_code == 200


def test_passwords_do_not_stall_the_event_loop(gateway):
    """While sign-ins compute, requests of others are answered."""
    done = threading.Event()

    def sign_in_all_the_time():
        while not done.is_set():
            login(gateway, username="admin", password="wrong but it takes its time")

    asker = threading.Thread(target=sign_in_all_the_time)
    asker.start()
    try:
        seconds = sorted(gateway.ask("GET", "/health/live").elapsed.total_seconds() for _ in range(40))
        assert seconds[len(seconds) // 2] < 0.25
    finally:
        done.set()
        asker.join()
        gateway.database.execute("DELETE FROM login_failures")


def test_no_password_and_no_token_is_in_the_log_or_the_audit_log(gateway):
    """API8:2023, and CWE-532."""
    tokens = login(gateway, username="admin", password=ADMIN_PASSWORD).json()
    wrong = login(gateway, username="admin", password="this-one-was-wrong-0815")
    gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    rows = json.dumps(gateway.database.rows("SELECT row_to_json(e) FROM audit_log e"), default=str)
    for secret in (ADMIN_PASSWORD, "this-one-was-wrong-0815", tokens["access_token"], tokens["refresh_token"]):
        assert secret not in rows
        assert secret not in wrong.text
        assert secret not in gateway.log.read_text()

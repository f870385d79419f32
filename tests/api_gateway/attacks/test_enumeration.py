"""Which users exist, and which are locked, is nobody's to know (OWASP API2:2023, CWE-204, CWE-208).

By body, by status, by headers, and by time: the quicker of many interleaved attempts in one run (what else the machine
does only adds time, so whoever measures takes the lower end), with a margin that is far below the cost of the argon2
that a short cut would save.
"""

import hashlib
import time
import uuid

import pytest
import requests

from ots_gateway.access import Role

PASSWORD = "a long enough passphrase"
ROUNDS, MOST_ROUNDS = 12, 150


@pytest.fixture(scope="module")
def gateway(start_gateway):
    """One worker that nobody else asks; accounts lock after three."""
    with start_gateway(1, WORKERS="1", LOGIN_FAILURES_PER_ACCOUNT="3", LOGIN_FAILURES_PER_ADDRESS="100000") as running:
        yield running
        running.database.execute("DELETE FROM login_failures")


@pytest.fixture(scope="module")
def names(gateway):
    """Of every kind of account that cannot be signed in to with this password."""
    gateway.database.execute("DELETE FROM login_failures")
    made = {kind: f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("exists", "disabled", "removed", "locked", "unknown")}
    for kind in ("exists", "disabled", "removed", "locked"):
        gateway.person(made[kind], Role.VIEWER, PASSWORD)
    gateway.database.execute("UPDATE users SET disabled = true WHERE username = %s", (made["disabled"],))
    gateway.database.execute(
        "UPDATE users SET disabled = true, removed_at = now() WHERE username = %s", (made["removed"],)
    )
    for _ in range(3):
        login(gateway, made["locked"], "wrong password")
    return {**made, "impossible": "not a username, nor like one"}


def login(gateway, username, password, session=requests):
    body = {"username": username, "password": password}
    return session.post(gateway.url + "/api/v1/auth/login", json=body, timeout=30)


def lock(gateway, username):
    """For longer than a test takes, whatever its count."""
    subject = hashlib.sha256(f"account\0{username}\0".encode()).digest()
    touched = gateway.database.execute(
        "UPDATE login_failures SET locked_until = now() + interval '5 min' WHERE subject = %s", (subject,)
    )
    assert touched == 1


def test_by_status_body_and_headers(gateway, names):
    lock(gateway, names["locked"])
    told = {}
    for kind, name in names.items():
        # the right password, where there is one and it may not be used
        answer = login(gateway, name, "wrong password" if kind == "exists" else PASSWORD)
        body = {key: value for key, value in answer.json().items() if key != "request_id"}
        told[kind] = (answer.status_code, body, sorted(answer.headers), answer.headers["Content-Length"])
    assert all(answer == told["unknown"] for answer in told.values()), told


def test_by_time(gateway, names):
    """The quickest answers of all kinds lie within two fifths; without equal work an unknown name would be 5x faster.

    Other work on the machine only adds time, so it takes more attempts until each kind has had an undisturbed one, as
    it would take whoever measures from outside; a real difference stays however many there are.
    """
    session = requests.Session()
    for _ in range(3):
        for name in names.values():
            login(gateway, name, "wrong password", session)
    quickest = dict.fromkeys(names, float("inf"))
    for turn in range(MOST_ROUNDS):
        for kind, name in names.items():
            gateway.database.execute("UPDATE login_failures SET failures = 0, locked_until = NULL")
            if kind == "locked":
                lock(gateway, name)
            began = time.perf_counter()
            assert login(gateway, name, "wrong password", session).status_code == 401
            quickest[kind] = min(quickest[kind], time.perf_counter() - began)
        if turn >= ROUNDS and max(quickest.values()) < 1.4 * min(quickest.values()):
            break
    assert max(quickest.values()) < 1.4 * min(quickest.values()), quickest
    # and argon2 is most of it: a short cut would show
    assert min(quickest.values()) > 0.008, quickest


def test_making_a_user_is_the_only_way_to_learn_a_name_and_asks_for_an_admin(gateway, names):
    body = {"username": names["exists"], "password": PASSWORD, "role": "viewer"}
    for role in (None, Role.VIEWER, Role.OPERATOR):
        assert gateway.ask("POST", "/api/v1/users", role, json=body).status_code in (401, 403)


def test_a_refusal_of_a_role_needs_the_password(gateway, names):
    """403 says that the password was right; it must not come before."""
    gateway.database.execute("DELETE FROM login_failures")
    body = {"username": names["exists"], "password": "wrong password", "role": "admin"}
    assert gateway.ask("POST", "/api/v1/auth/login", json=body).status_code == 401

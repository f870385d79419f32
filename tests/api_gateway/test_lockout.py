"""Guessing gets slow, per account and per address, and the locked are told what the wrong are told."""

import concurrent.futures
import time
import uuid

import pytest
import requests
from requests.adapters import HTTPAdapter

from ots_gateway.access import Role
from ots_gateway.lockout import Lockout, network_of

PASSWORD = "a long enough passphrase"


@pytest.fixture(scope="module")
def gateway(start_gateway):
    """Three wrong passwords slow an account, twelve an address."""
    with start_gateway(1, LOGIN_FAILURES_PER_ACCOUNT="3", LOGIN_FAILURES_PER_ADDRESS="12") as running:
        yield running
        running.database.execute("DELETE FROM login_failures")


@pytest.fixture(autouse=True)
def _forgiven(gateway):
    gateway.database.execute("DELETE FROM login_failures")


@pytest.fixture
def user(gateway):
    name = f"locked-{uuid.uuid4().hex[:8]}"
    gateway.person(name, Role.VIEWER, PASSWORD)
    return name


class FromAddress(HTTPAdapter):
    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments, **keywords):
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **keywords)


def login(gateway, username, password, address="127.0.0.1"):
    with requests.Session() as session:
        session.mount("http://", FromAddress(address))
        body = {"username": username, "password": password}
        return session.post(gateway.url + "/api/v1/auth/login", json=body, timeout=30)


def told(answer):
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    headers = {name.lower() for name in answer.headers}
    return answer.status_code, body, headers


def unlock_now(gateway):
    gateway.database.execute("UPDATE login_failures SET locked_until = now() WHERE locked_until IS NOT NULL")


def hold(gateway):
    """What is locked stays so for as long as a test takes."""
    assert gateway.database.execute(
        "UPDATE login_failures SET locked_until = now() + interval '5 min' WHERE locked_until IS NOT NULL"
    )


def test_after_some_failures_the_right_password_is_told_the_same_as_a_wrong_one(gateway, user):
    wrong = [told(login(gateway, user, "wrong password")) for _ in range(3)]
    hold(gateway)
    right = told(login(gateway, user, PASSWORD))
    assert right[0] == 401
    assert right == wrong[0] == wrong[2]


def test_it_opens_by_itself_and_a_success_clears_the_count(gateway, user):
    for _ in range(3):
        login(gateway, user, "wrong password")
    hold(gateway)
    assert login(gateway, user, PASSWORD).status_code == 401
    gateway.database.execute("UPDATE login_failures SET locked_until = now() + interval '1 s'")
    time.sleep(1.1)
    assert login(gateway, user, PASSWORD).status_code == 200
    for _ in range(2):
        login(gateway, user, "wrong password")
    assert login(gateway, user, PASSWORD).status_code == 200


def test_each_failure_past_the_limit_doubles_the_wait_up_to_a_quarter_of_an_hour(gateway, user):
    waits = []
    for _ in range(15):
        login(gateway, user, "wrong password", address=f"127.0.0.{len(waits) + 10}")
        rows = gateway.database.rows(
            "SELECT extract(epoch FROM max(locked_until) - now())::float FROM login_failures WHERE failures > 1"
        )
        waits.append(round(rows[0][0] or 0))
        unlock_now(gateway)
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


def test_attempts_on_a_locked_account_do_not_lock_it_for_longer(gateway, user):
    for _ in range(3):
        login(gateway, user, "wrong password")
    before = gateway.database.rows("SELECT max(locked_until) FROM login_failures WHERE failures = 3")
    gateway.database.execute(
        "UPDATE login_failures SET locked_until = locked_until + interval '1 minute' WHERE failures = 3"
    )
    for number in range(5):
        login(gateway, user, "wrong password", address=f"127.0.1.{number + 1}")
    rows = gateway.database.rows(
        "SELECT max(locked_until) - interval '1 minute' FROM login_failures WHERE failures = 3"
    )
    assert rows == before


def test_an_account_that_does_not_exist_locks_like_one_that_does(gateway, user):
    nobody = f"nobody-{uuid.uuid4().hex[:8]}"
    for name in (user, nobody):
        for _ in range(3):
            login(gateway, name, "wrong password")
    counts = gateway.database.rows("SELECT failures, locked_until IS NOT NULL FROM login_failures WHERE failures < 6")
    assert counts == [(3, True), (3, True)]
    hold(gateway)
    assert told(login(gateway, user, PASSWORD)) == told(login(gateway, nobody, PASSWORD))


def test_a_stranger_does_not_lock_a_user_out_of_where_they_are_at_home(gateway, user):
    """Whoever signed in from an address before has a count of their own there."""
    assert login(gateway, user, PASSWORD, address="127.0.0.2").status_code == 200
    for number in range(6):
        login(gateway, user, "wrong password", address=f"127.0.0.{number + 20}")
    hold(gateway)
    assert login(gateway, user, PASSWORD, address="127.0.0.30").status_code == 401
    assert login(gateway, user, PASSWORD, address="127.0.0.2").status_code == 200


def test_and_who_is_at_home_there_may_not_guess_for_ever(gateway, user):
    assert login(gateway, user, PASSWORD, address="127.0.0.3").status_code == 200
    for _ in range(3):
        login(gateway, user, "wrong password", address="127.0.0.3")
    hold(gateway)
    assert login(gateway, user, PASSWORD, address="127.0.0.3").status_code == 401


def test_guesses_made_at_once_share_one_turn_when_the_limit_is_reached(gateway, user):
    login(gateway, user, "wrong password")
    gateway.database.execute("UPDATE login_failures SET failures = 9, locked_until = now()")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: login(gateway, user, f"guess {n}", address=f"127.0.2.{n + 1}"), range(8)))
    # the first locks for two minutes: only it was counted
    assert gateway.database.rows("SELECT max(failures) FROM login_failures") == [(10,)]


def test_many_right_passwords_at_once_lock_nobody_out(gateway, user):
    login(gateway, user, "wrong password")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: login(gateway, user, PASSWORD), range(16)))
    assert {answer.status_code for answer in answers} == {200}


def test_an_address_that_sprays_is_refused_whatever_it_asks(gateway, user):
    """API4:2023 and API6:2023: one password at many names."""
    for number in range(12):
        login(gateway, f"name-{number}", "Spring2026!!", address="127.0.0.9")
    refused = login(gateway, user, PASSWORD, address="127.0.0.9")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 900
    assert told(refused) == told(login(gateway, "nobody-at-all", "x", address="127.0.0.9"))
    assert login(gateway, user, PASSWORD, address="127.0.0.10").status_code == 200


def test_a_success_does_not_forgive_an_address(gateway, user):
    for number in range(11):
        login(gateway, f"name-{number}", "Spring2026!!", address="127.0.0.11")
    assert login(gateway, user, PASSWORD, address="127.0.0.11").status_code == 200
    login(gateway, "name-12", "Spring2026!!", address="127.0.0.11")
    assert login(gateway, user, PASSWORD, address="127.0.0.11").status_code == 429


def test_a_password_change_counts_too(gateway, user):
    """A stolen token must not be a way to guess the password."""
    token = login(gateway, user, PASSWORD).json()["access_token"]
    for _ in range(3):
        body = {"current_password": "wrong password", "new_password": PASSWORD + "!"}
        headers = {"Authorization": f"Bearer {token}"}
        assert gateway.ask("POST", "/api/v1/auth/password", headers=headers, json=body).status_code == 403
    hold(gateway)
    body = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    assert gateway.ask("POST", "/api/v1/auth/password", headers=headers, json=body).status_code == 403
    assert login(gateway, user, PASSWORD).status_code == 401


def test_it_is_durable(gateway, user, start_gateway):
    for _ in range(6):
        login(gateway, user, "wrong password")
        unlock_now(gateway)
    login(gateway, user, "wrong password")
    hold(gateway)
    with start_gateway(1, LOGIN_FAILURES_PER_ACCOUNT="3") as another:
        assert login(another, user, PASSWORD).status_code == 401


def test_a_day_later_the_count_begins_anew(gateway, user):
    for _ in range(3):
        login(gateway, user, "wrong password")
    gateway.database.execute("UPDATE login_failures SET last_at = now() - interval '25 hours', locked_until = now()")
    for _ in range(2):
        login(gateway, user, "wrong password")
    assert login(gateway, user, PASSWORD).status_code == 200


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("::ffff:192.0.2.1", "192.0.2.1"),
     ("unknown", "unknown"), ("x" * 100, "x" * 64)],
)  # fmt: skip
def test_an_ipv6_customer_is_one_address(address, network):
    assert network_of(address) == network


def test_a_reset_by_command_opens_the_account(gateway, user):
    for _ in range(3):
        login(gateway, user, "wrong password")
    Lockout(gateway.database, per_account=3, per_address=12).clear(user)
    assert login(gateway, user, PASSWORD).status_code == 200

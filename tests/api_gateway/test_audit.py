"""The audit log: who, what, from where, with what result; and it shows when it was altered."""

import csv
import io
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from types import SimpleNamespace

import pytest
import structlog

from conftest import provisioned
from database_support import administer
from gateway_support import ADMIN_PASSWORD
from ots_common.database import Database
from ots_gateway import audit
from ots_gateway.access import Role
from ots_gateway.audit_log import Entry, append
from ots_gateway.metrics import AUDIT_LOST
from places import MIGRATIONS

PASSWORD = "a long enough passphrase"


def login(gateway, username, password):
    return gateway.ask("POST", "/api/v1/auth/login", json={"username": username, "password": password})


def row_of(gateway, answer):
    """The row of that answer, as the API tells it."""
    entries = gateway.ask("GET", "/api/v1/audit?limit=200", Role.ADMIN).json()["entries"]
    found = [entry for entry in entries if entry["request_id"] == answer.headers["X-Request-ID"]]
    return found[0] if found else None


# --- what is written ---


def test_every_sign_in(gateway):
    row = row_of(gateway, login(gateway, "admin", ADMIN_PASSWORD))
    assert (row["event"], row["username"], row["role"], row["status"]) == ("login", "admin", "admin", 200)
    assert (row["method"], row["path"], row["address"]) == ("POST", "/api/v1/auth/login", "127.0.0.1")


def test_every_failed_sign_in_with_the_name_that_was_tried(gateway):
    row = row_of(gateway, login(gateway, "Somebody.Else", "wrong password"))
    assert (row["event"], row["username"], row["status"]) == ("login_failed", "somebody.else", 401)
    # what cannot be a username may be a password in the wrong field
    row = row_of(gateway, login(gateway, "My Password 123!", "x"))
    assert (row["event"], row["username"]) == ("login_failed", None)


def test_every_refusal(gateway):
    nobody = row_of(gateway, gateway.ask("GET", "/api/v1/users"))
    assert (nobody["event"], nobody["status"], nobody["username"]) == ("refused", 401, None)
    viewer = row_of(gateway, gateway.ask("GET", "/api/v1/users", Role.VIEWER))
    assert (viewer["event"], viewer["status"], viewer["username"], viewer["role"]) == (
        "refused",
        403,
        "somebody",
        "viewer",
    )
    assert viewer["credential"].startswith("token:")


def test_every_write_of_a_service(gateway):
    row = row_of(gateway, gateway.ask("POST", "/api/v1/cache/analytics", Role.TRADER, data=b"{}"))
    assert (row["event"], row["status"], row["role"]) == ("write", 200, "trader")
    assert row_of(gateway, gateway.ask("GET", "/api/v1/data/runs", Role.TRADER)) is None


def test_a_question_that_comes_as_a_body_is_no_write(gateway):
    path = "/api/v1/analytics/options/price"
    assert row_of(gateway, gateway.ask("POST", path, Role.VIEWER, json={})) is None
    refused = row_of(gateway, gateway.ask("POST", path, json={}))
    assert (refused["event"], refused["status"]) == ("refused", 401)


def test_every_change_of_users_and_keys(gateway):
    name = f"a-{uuid.uuid4().hex[:8]}"
    made = gateway.ask(
        "POST", "/api/v1/users", Role.ADMIN, json={"username": name, "password": PASSWORD, "role": "viewer"}
    )
    user_id = made.json()["user_id"]
    tokens = login(gateway, name, PASSWORD).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    url = f"/api/v1/users/{user_id}"
    key = gateway.ask("POST", "/api/v1/keys", headers=headers, json={"name": "k"})
    change = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    refreshed = gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    answers = {
        "user_create": made,
        "key_create": key,
        "key_revoke": gateway.ask("DELETE", f"/api/v1/keys/{key.json()['key_id']}", headers=headers),
        "refresh": refreshed,
        "password_change": gateway.ask("POST", "/api/v1/auth/password", headers=headers, json=change),
        "refresh_reused": gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}),
        "user_change": gateway.ask("PATCH", url, Role.ADMIN, json={"role": "operator"}),
        "password_reset": gateway.ask("POST", url + "/password", Role.ADMIN, json={"new_password": PASSWORD}),
        "user_remove": gateway.ask("DELETE", url, Role.ADMIN),
    }
    rows = {event: row_of(gateway, answer) for event, answer in answers.items()}
    assert {event: row["event"] for event, row in rows.items()} == {event: event for event in rows}
    assert json.loads(rows["user_change"]["detail"]) == {
        "target": name, "target_id": user_id, "role": ["viewer", "operator"], "disabled": [False, False],
    }  # fmt: skip
    assert rows["refresh_reused"]["username"] == name
    assert json.loads(rows["key_create"]["detail"])["target"].startswith("ots_")
    texts = json.dumps(list(rows.values()))
    assert PASSWORD not in texts
    assert key.json()["key"] not in texts


def test_what_is_refused_is_written_too(gateway):
    taken = gateway.ask(
        "POST", "/api/v1/users", Role.ADMIN, json={"username": "admin", "password": PASSWORD, "role": "viewer"}
    )
    row = row_of(gateway, taken)
    assert (row["event"], row["status"]) == ("user_create", 409)
    missing = gateway.ask("DELETE", f"/api/v1/users/{uuid.uuid4()}", Role.ADMIN)
    assert (row_of(gateway, missing)["event"], missing.status_code) == ("user_remove", 404)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/users%0a{}", "/api/v1/users/%e2%80%a8x", "/api/v1/users/x%1b[31m", '/api/v1/data/bars/"}{"a":1'],
)
def test_a_line_of_the_log_cannot_be_forged(gateway, path):
    """CWE-117: whatever is in a path, a name or a header, a row is a row and a line is a line."""
    before = len(gateway.log.read_text().splitlines())
    gateway.ask("GET", path, headers={"User-Agent": "x", "X-Request-ID": "a b\tc", "X-Forwarded-For": "1.2.3.4"})
    time.sleep(0.1)
    for line in gateway.log.read_text().splitlines()[before:]:
        assert json.loads(line)["service"] == "gateway"
    newest = gateway.database.rows("SELECT path, address FROM audit_log ORDER BY entry_id DESC LIMIT 1")[0]
    assert newest[0].isprintable()
    assert newest[1] == "127.0.0.1"


# --- how it is read ---


def test_filters_and_pages(gateway):
    name = f"f-{uuid.uuid4().hex[:8]}"
    for _ in range(5):
        login(gateway, name, "wrong password")
    url = f"/api/v1/audit?user={name}&event=login_failed"
    whole = gateway.ask("GET", url, Role.ADMIN).json()
    assert len(whole["entries"]) == 5
    assert whole["next"] is None
    found, page = [], url + "&limit=2"
    while page:
        body = gateway.ask("GET", page, Role.ADMIN).json()
        found += body["entries"]
        page = body["next"]
    assert found == whole["entries"]
    numbers = [entry["entry_id"] for entry in found]
    assert numbers == sorted(numbers, reverse=True)
    newest = found[0]["at"]
    bounded = gateway.ask("GET", url, Role.ADMIN, params={"end": newest}).json()["entries"]
    assert bounded == found[1:]
    assert gateway.ask("GET", url, Role.ADMIN, params={"start": newest}).json()["entries"] == found[:1]


def test_csv_has_the_same_rows_and_no_formula(gateway):
    login(gateway, "csv-reader", "wrong password")
    gateway.ask("GET", "/api/v1/users", headers={"X-Request-ID": "-2+3-cmd"})
    gateway.ask("GET", "/api/v1/users", headers={"X-Request-ID": "-2.3-cmd"})
    rows = gateway.ask("GET", "/api/v1/audit?limit=50&event=refused", Role.ADMIN).json()["entries"]
    text = gateway.ask("GET", "/api/v1/audit?limit=50&event=refused", Role.ADMIN, headers={"Accept": "text/csv"}).text
    lines = list(csv.DictReader(io.StringIO(text)))
    by_number = {line["entry_id"]: line for line in lines}
    assert by_number[str(rows[0]["entry_id"])]["hash"] == rows[0]["hash"]
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in lines for cell in line.values() if cell)
    assert any(line["request_id"] == "'-2.3-cmd" for line in lines)


@pytest.mark.parametrize(
    "query",
    ["user=A", "user='", "event=x", "start=yesterday", "limit=0", "limit=10001", "cursor=x", "who=me",
     "start=2026-01-02&end=2026-01-01"],
)  # fmt: skip
def test_wrong_questions(gateway, query):
    assert gateway.ask("GET", f"/api/v1/audit?{query}", Role.ADMIN).status_code == 422


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.TRADER, Role.OPERATOR])
def test_only_admins_read_it(gateway, role):
    assert gateway.ask("GET", "/api/v1/audit", role).status_code == (403 if role else 401)


# --- the chain ---


@pytest.fixture(scope="module")
def written(postgres):
    """The name of an accounts database with ten rows that no test touches."""
    with provisioned(postgres) as (_, name):
        database = Database(postgres.url("ots_accounts", "accounts-password", name), application="tests", size=1)
        odd = 'ü\n"x\\\u2028\x7f'
        for number in range(10):
            append(database, [Entry(request_id=f"r{number}", username=odd, address="a", path="/", detail='{"a": 1}')])
        database.close()
        yield name


@pytest.fixture
def chain(postgres, written):
    """A copy of it, the administrator's way in, and the gateway's."""
    name = f"chain_{uuid.uuid4().hex[:8]}"
    administer(postgres.admin_url, f"CREATE DATABASE {name} TEMPLATE {written}")
    url = postgres.url("ots_accounts", "accounts-password", name)
    database = Database(url, application="tests", size=4)
    admin = Database(postgres.admin_url.replace("/postgres?", f"/{name}?"), application="tests", size=1)
    yield database, admin, url
    database.close()
    admin.close()
    administer(postgres.admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def tamper(admin, sql):
    admin.execute(
        f"ALTER TABLE audit.entries DISABLE TRIGGER USER; {sql}; ALTER TABLE audit.entries ENABLE TRIGGER USER"
    )


def test_as_written_it_verifies(chain, gateway):
    wrong, last, digest = audit.problems_of(chain[0])
    assert (wrong, last, len(digest)) == ([], 10, 32)
    assert audit.problems_of(chain[0], (last, digest))[0] == []
    # and so does the one that all these tests wrote into
    assert audit.problems_of(gateway.database)[0] == []


def rehashed(number):
    return f"UPDATE audit.entries e SET hash = audit.hash_of(e) WHERE entry_id = {number}"


TAMPERED = {
    "UPDATE audit.entries SET status = 200 WHERE entry_id = 4": ["entry 4 was changed"],
    "UPDATE audit.entries SET username = NULL WHERE entry_id = 1": ["entry 1 was changed"],
    "UPDATE audit.entries SET at = at + interval '1 microsecond' WHERE entry_id = 10": ["entry 10 was changed"],
    f"UPDATE audit.entries SET status = 200 WHERE entry_id = 4; {rehashed(4)}": [
        "entry 5 does not follow entry 4: one of them was replaced or inserted"
    ],
    "DELETE FROM audit.entries WHERE entry_id = 4": ["entry 4 was removed"],
    "DELETE FROM audit.entries WHERE entry_id IN (1, 2)": ["entries 1 to 2 were removed"],
    "DELETE FROM audit.entries WHERE entry_id BETWEEN 5 AND 7": ["entries 5 to 7 were removed"],
    (
        "UPDATE audit.entries SET entry_id = -entry_id; UPDATE audit.entries SET entry_id ="
        " CASE WHEN -entry_id > 4 THEN -entry_id + 1 ELSE -entry_id END; INSERT INTO audit.entries"
        " SELECT 5, at, 'inserted', user_id, username, role, credential, address, method, path, status, event, detail,"
        f" hash, hash FROM audit.entries WHERE entry_id = 4; {rehashed(5)}"
    ): [
        "entry 6 does not follow entry 5: one of them was replaced or inserted", "entry 6 was changed",
        "entry 7 was changed", "entry 8 was changed", "entry 9 was changed", "entry 10 was changed",
        "entry 11 was changed",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), TAMPERED.items(), ids=range(len(TAMPERED)))
def test_what_was_altered_is_named(chain, sql, expected):
    database, admin, _ = chain
    tamper(admin, sql)
    assert audit.problems_of(database)[0] == expected


def test_an_end_cut_off_and_a_chain_rewritten_show_against_an_anchor(chain):
    database, admin, _ = chain
    _, last, digest = audit.problems_of(database)
    tamper(admin, "DELETE FROM audit.entries WHERE entry_id > 8")
    # without one, the shorter chain is a chain
    assert audit.problems_of(database)[0] == []
    assert audit.problems_of(database, (last, digest))[0] == ["entry 10 was removed: the log ends at entry 8"]
    append(database, [Entry(request_id="n"), Entry(request_id="m")])
    assert audit.problems_of(database)[0] == []
    assert audit.problems_of(database, (last, digest))[0] == [
        "entry 10 is not the one that was anchored: the chain was rewritten"
    ]


def test_the_command(chain):
    _, admin, url = chain

    def verify(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ots_gateway.audit", "verify", *arguments],
            env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    good = verify()
    assert good.returncode == 0
    anchor = good.stdout.split("the last ")[1].split(",")[0]
    assert verify("--anchor", anchor).returncode == 0
    tamper(admin, "UPDATE audit.entries SET path = '/x' WHERE entry_id = 3")
    bad = verify()
    assert (bad.returncode, bad.stderr) == (1, "audit: entry 3 was changed\n")


def test_the_gateways_log_has_the_anchors(gateway):
    answer = gateway.ask("GET", "/api/v1/users")
    row = row_of(gateway, answer)
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if "audit_row" in line]
    assert (row["entry_id"], row["hash"]) in [(line.get("entry_id"), line.get("hash")) for line in lines]


def test_writers_at_the_same_time_make_one_chain(chain):
    database, _, url = chain
    pools = [Database(url, application="tests", size=4) for _ in range(2)]
    writers = [audit.Writer(pool) for pool in pools]
    numbers = []

    def write(writer):
        for _ in range(25):
            numbers.append(writer.write(Entry(request_id=uuid.uuid4().hex))[0])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in writers for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(11, 411))
    assert audit.problems_of(database)[:2] == ([], 410)
    for pool in pools:
        pool.close()


def test_one_row_that_the_database_refuses_does_not_lose_the_others(chain):
    writer = audit.Writer(chain[0])
    good, bad = audit._Pending(Entry(request_id="good")), audit._Pending(Entry(request_id="bad", event="unheard of"))
    writer._write([good, bad])
    assert good.written is not None
    assert bad.error is not None
    assert audit.problems_of(chain[0])[:2] == ([], 11)


def test_what_cannot_be_written_is_counted_and_logged(gateway):
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing", application="tests", size=1)
    before = AUDIT_LOST._value.get()
    request = SimpleNamespace(method="GET", path="/x", remote_addr=None)
    with structlog.testing.capture_logs() as logs:
        audit.record(nowhere, request, "request-id", None, 401, "refused")
    assert AUDIT_LOST._value.get() == before + 1
    assert [(line["event"], line["log_level"]) for line in logs] == [("audit_row_lost", "error")]


def test_former_rows_start_the_chain(postgres):
    """Migration 0002 over a log of 0001."""
    name = f"former_{uuid.uuid4().hex[:8]}"
    administer(postgres.admin_url, f"CREATE DATABASE {name}")
    database = Database(postgres.admin_url.replace("/postgres?", f"/{name}?"), application="tests", size=1)
    try:
        first, second = sorted((MIGRATIONS / "accounts").glob("000[12].*.sql"))
        with database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(first.read_text())
            cursor.execute(
                "INSERT INTO audit_log (request_id, username, address, method, path, status, event) SELECT"
                " 'old' || i, CASE WHEN i > 1 THEN 'x' END, 'a', 'POST', '/', 200, 'write' FROM generate_series(1, 3) i"
            )
        with database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(second.read_text())
        append(database, [Entry(request_id="new")])
        assert audit.problems_of(database)[:2] == ([], 4)
        assert database.rows("SELECT request_id FROM audit_log ORDER BY entry_id") == [
            ("old1",), ("old2",), ("old3",), ("new",),
        ]  # fmt: skip
    finally:
        database.close()
        administer(postgres.admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_chain_costs_little_more_than_a_row(chain):
    """Medians of one run: a chained row against a bare insert of the same width, both committed."""
    database, admin, _ = chain
    admin.execute("CREATE TABLE bare AS SELECT * FROM audit.entries WITH NO DATA; GRANT ALL ON bare TO ots_accounts")
    insert = "INSERT INTO bare SELECT * FROM audit.entries WHERE entry_id = 1"
    chained, bare = [], []
    for _ in range(60):
        for times, deed in (
            (chained, lambda: append(database, [Entry(request_id="x")])),
            (bare, lambda: database.execute(insert)),
        ):
            began = time.perf_counter()
            deed()
            times.append(time.perf_counter() - began)
    assert statistics.median(chained) < 5 * statistics.median(bare)

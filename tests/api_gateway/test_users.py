"""Users, as administrators keep them."""

import threading
import uuid

import pytest

from gateway_support import ADMIN_PASSWORD
from ots_gateway.access import Role
from ots_gateway.users import canonical_username

PASSWORD = "a long enough passphrase"


def make(gateway, username=None, role="trader", password=PASSWORD, **more):
    body = {"username": username or f"u-{uuid.uuid4().hex[:8]}", "password": password, "role": role, **more}
    return gateway.ask("POST", "/api/v1/users", Role.ADMIN, json=body)


def login(gateway, username, password=PASSWORD):
    return gateway.ask("POST", "/api/v1/auth/login", json={"username": username, "password": password})


def patch(gateway, user_id, **body):
    return gateway.ask("PATCH", f"/api/v1/users/{user_id}", Role.ADMIN, json=body)


def test_a_user_is_made_read_listed_and_signs_in(gateway):
    made = make(gateway, "Maria.Rossi@example.com")
    assert made.status_code == 201, made.text
    user = made.json()
    assert made.headers["Location"] == f"/api/v1/users/{user['user_id']}"
    assert (user["username"], user["role"], user["disabled"]) == ("maria.rossi@example.com", "trader", False)
    assert not {"password", "password_hash"} & user.keys()
    assert gateway.ask("GET", f"/api/v1/users/{user['user_id']}", Role.ADMIN).json() == user
    assert user in gateway.ask("GET", "/api/v1/users?limit=1000", Role.ADMIN).json()["users"]
    assert login(gateway, "maria.rossi@example.com").json()["role"] == "trader"


def test_pages_of_the_list_make_the_list(gateway):
    for _ in range(3):
        make(gateway)
    whole = gateway.ask("GET", "/api/v1/users?limit=1000", Role.ADMIN).json()
    assert whole["next"] is None
    found, url = [], "/api/v1/users?limit=2"
    while url:
        page = gateway.ask("GET", url, Role.ADMIN).json()
        found += page["users"]
        url = page["next"]
    assert found == whole["users"]
    assert [user["username"] for user in found] == sorted(user["username"] for user in found)


@pytest.mark.parametrize(
    "username",
    [
        " ",
        "-a",
        ".a",
        "a b",
        "a/b",
        "\u00e4",
        "\u0430dmin",
        "\u212ay",
        "\uff41dmin",
        "admi\u0307n",
        "a\x00",
        "x" * 65,
        "a'b",
    ],
)
def test_what_is_no_username(gateway, username):
    """ASCII only: nothing looks like another's name, and the Kelvin sign (U+212A) does not become a k."""
    assert make(gateway, username).status_code == 422
    assert canonical_username(username) is None


def test_a_name_is_one_persons_for_ever(gateway):
    made = make(gateway, "once-only").json()
    assert make(gateway, "ONCE-only").status_code == 409
    assert gateway.ask("DELETE", f"/api/v1/users/{made['user_id']}", Role.ADMIN).status_code == 204
    assert make(gateway, "once-only").status_code == 409


@pytest.mark.parametrize("password", ["short", "a" * 30, "x" * 1025, "named-like-this"])
def test_what_is_no_password(gateway, password):
    assert make(gateway, "named-like-this", password=password).status_code == 422


def test_a_disabled_user_is_out_and_can_come_back(gateway):
    user = make(gateway).json()
    tokens = login(gateway, user["username"]).json()
    assert gateway.works(tokens["access_token"])
    assert patch(gateway, user["user_id"], disabled=True).json()["disabled"] is True
    assert gateway.until_refused(tokens["access_token"])
    assert login(gateway, user["username"]).status_code == 401
    refreshed = gateway.ask("POST", "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert refreshed.status_code == 401
    assert patch(gateway, user["user_id"], disabled=False).status_code == 200
    assert login(gateway, user["username"]).status_code == 200
    # what was ended stays ended
    assert not gateway.works(tokens["access_token"])


def test_a_removed_user_is_out_and_gone(gateway):
    user = make(gateway).json()
    tokens = login(gateway, user["username"]).json()
    assert gateway.ask("DELETE", f"/api/v1/users/{user['user_id']}", Role.ADMIN).status_code == 204
    assert gateway.until_refused(tokens["access_token"])
    assert login(gateway, user["username"]).status_code == 401
    for method in ("GET", "DELETE"):
        assert gateway.ask(method, f"/api/v1/users/{user['user_id']}", Role.ADMIN).status_code == 404
    assert patch(gateway, user["user_id"], disabled=False).status_code == 404
    # the row stays for the audit log
    assert gateway.database.rows("SELECT username FROM users WHERE user_id = %s", (user["user_id"],))


def test_an_admin_resets_a_password_but_not_their_own(gateway):
    user = make(gateway).json()
    tokens = login(gateway, user["username"]).json()
    body = {"new_password": "another long passphrase"}
    assert gateway.ask("POST", f"/api/v1/users/{user['user_id']}/password", Role.ADMIN, json=body).status_code == 204
    assert gateway.until_refused(tokens["access_token"])
    assert login(gateway, user["username"]).status_code == 401
    assert login(gateway, user["username"], body["new_password"]).status_code == 200
    me = gateway.ask("GET", "/api/v1/auth/me", Role.ADMIN).json()["user_id"]
    assert gateway.ask("POST", f"/api/v1/users/{me}/password", Role.ADMIN, json=body).status_code == 409


@pytest.fixture
def lone_admin(gateway):
    """The user admin is the only one for a while."""
    others = gateway.database.rows(
        "UPDATE users SET role = 'operator' WHERE role = 'admin' AND username <> 'admin' RETURNING user_id::text"
    )
    yield gateway.database.rows("SELECT user_id::text FROM users WHERE username = 'admin'")[0][0]
    gateway.database.execute(
        "UPDATE users SET role = 'admin' WHERE user_id = ANY(%s::uuid[])", ([o[0] for o in others],)
    )
    gateway.database.execute(
        "UPDATE users SET disabled = false, removed_at = NULL, role = 'admin' WHERE username = 'admin'"
    )


def test_the_last_admin_cannot_be_removed_demoted_or_disabled(gateway, lone_admin):
    token = login(gateway, "admin", ADMIN_PASSWORD).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"/api/v1/users/{lone_admin}"
    assert gateway.ask("DELETE", url, headers=headers).status_code == 409
    assert gateway.ask("PATCH", url, headers=headers, json={"role": "operator"}).status_code == 409
    assert gateway.ask("PATCH", url, headers=headers, json={"disabled": True}).status_code == 409
    assert gateway.ask("GET", url, headers=headers).json()["role"] == "admin"


def test_two_admins_who_demote_each_other_leave_one(gateway, lone_admin):
    for _ in range(5):
        other = gateway.person("admin-two", Role.ADMIN)
        gateway.database.execute("UPDATE users SET role = 'admin' WHERE username IN ('admin-two', 'admin')")
        tokens = [login(gateway, "admin", ADMIN_PASSWORD).json()["access_token"], gateway.token_of(other)]
        targets = [other.user_id, lone_admin]
        barrier, statuses = threading.Barrier(2), []

        def demote(token, target, barrier=barrier, statuses=statuses):
            barrier.wait()
            answer = gateway.ask(
                "PATCH",
                f"/api/v1/users/{target}",
                headers={"Authorization": f"Bearer {token}"},
                json={"role": "viewer"},
            )
            statuses.append(answer.status_code)

        threads = [threading.Thread(target=demote, args=pair) for pair in zip(tokens, targets, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # the one who came later is refused as the last admin, or is an admin no more
        assert sorted(statuses)[0] == 200
        assert sorted(statuses)[1] in (401, 403, 409)
        left = gateway.database.rows("SELECT count(*) FROM users WHERE role = 'admin' AND NOT disabled")[0][0]
        assert left == 1
    gateway.database.execute("UPDATE users SET role = 'viewer' WHERE username = 'admin-two'")


@pytest.mark.parametrize("body", [{}, {"role": None}, {"role": "root"}, {"disabled": "yes please"}, []])
def test_a_change_of_nothing_is_a_422(gateway, body):
    user = gateway.person("unchanged", Role.VIEWER)
    answer = gateway.ask("PATCH", f"/api/v1/users/{user.user_id}", Role.ADMIN, json=body)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "user_id", ["1", "me", "6f3c0c8e-0000-4000-8000-00000000000g", "6f3c0c8e-0000-4000-8000-000000000000"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_ids_that_are_nobodys(gateway, method, user_id):
    status = 404 if user_id.endswith("0000") else 422
    assert gateway.ask(method, f"/api/v1/users/{user_id}", Role.ADMIN).status_code == status

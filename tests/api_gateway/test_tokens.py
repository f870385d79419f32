"""Tokens that are not ours, not now, or not what they say."""

import base64
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway_support import ADMIN_PASSWORD, SEED
from ots_gateway import user_tokens
from ots_gateway.access import Role

PRIVATE = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(SEED + "="))
PUBLIC_RAW = PRIVATE.public_key().public_bytes_raw()
PUBLIC_DER = PRIVATE.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)


def claims(**changes):
    now = int(time.time())
    good = {
        "iss": "ai-ots", "aud": "ai-ots", "sub": "u", "name": "n", "role": "admin",
        "iat": now, "exp": now + 60, "jti": "j",
    }  # fmt: skip
    return {k: v for k, v in {**good, **changes}.items() if v is not None}


def signed(gateway, body, key=PRIVATE, algorithm="EdDSA", **header):
    headers = {"kid": gateway.authority.key_id, "typ": "at+jwt", **header}
    return jwt.encode(body, key, algorithm=algorithm, headers=headers)


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unsigned(gateway):
    return f"{part({'alg': 'none', 'kid': gateway.authority.key_id, 'typ': 'at+jwt'})}.{part(claims())}."


def confused(gateway, public):
    """Signed by hand with the public key as if it were a shared secret: the library refuses to."""
    head = {"alg": "HS256", "kid": gateway.authority.key_id, "typ": "at+jwt"}
    signing_input = f"{part(head)}.{part(claims())}"
    return f"{signing_input}.{part(hmac.digest(public, signing_input.encode(), 'sha256'))}"


def tampered(gateway):
    head, body, signature = gateway.token(Role.VIEWER).split(".")
    data = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps({**data, "role": "admin"}).encode()).decode().rstrip("=")
    return f"{head}.{forged}.{signature}"


ATTACKS = {
    "none": unsigned,
    "hs256 with the raw public key": lambda g: confused(g, PUBLIC_RAW),
    "hs256 with the encoded public key": lambda g: confused(g, PUBLIC_DER),
    "another key": lambda g: signed(g, claims(), Ed25519PrivateKey.generate()),
    "another kid": lambda g: signed(g, claims(), kid="../../etc/passwd"),
    "another type": lambda g: signed(g, claims(), typ="JWT"),
    "internal token's type": lambda g: signed(g, claims(), typ="ots-internal"),
    "crit": lambda g: signed(g, claims(), crit=["exp"]),
    "jku": lambda g: signed(g, claims(), Ed25519PrivateKey.generate(), jku="http://127.0.0.1:1/keys"),
    "expired": lambda g: signed(g, claims(exp=int(time.time()) - 60)),
    "not yet issued": lambda g: signed(g, claims(iat=int(time.time()) + 600)),
    "another audience": lambda g: signed(g, claims(aud="cache")),
    "another issuer": lambda g: signed(g, claims(iss="somebody")),
    "no expiry": lambda g: signed(g, claims(exp=None)),
    "no role": lambda g: signed(g, claims(role=None)),
    "unknown role": lambda g: signed(g, claims(role="root")),
    "tampered": tampered,
    "garbage": lambda _: "a.b.c",
    "two dots": lambda _: "..",
    "long": lambda _: "a" * 7000,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attack(gateway, attack):
    answer = gateway.ask("GET", "/api/v1/data/runs", headers={"Authorization": f"Bearer {attack(gateway)}"})
    assert answer.status_code == 401, answer.text
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_a_remembered_token_lends_nothing_to_another(gateway):
    for _ in range(2):
        good = gateway.token(Role.VIEWER)
        head, body, signature = good.split(".")
        for token, status in ((good, 200), (good, 200), (f"{head}.{body}.{signature[::-1]}", 401), (f"{good}x", 401)):
            asked = gateway.ask("GET", "/api/v1/data/runs", headers={"Authorization": f"Bearer {token}"})
            assert asked.status_code == status


def test_what_is_remembered_is_bounded_and_ends_with_the_token(monkeypatch):
    monkeypatch.setattr(user_tokens, "_REMEMBER_AT_MOST", 3)
    authority = user_tokens.TokenAuthority(SEED, 600)
    user = user_tokens.User("u", "n", Role.VIEWER)
    for _ in range(10):
        assert authority.verify(authority.sign(user)) == user
        assert len(authority._verified) <= 3
    expired = jwt.encode(
        claims(exp=int(time.time()) - 1), PRIVATE, algorithm="EdDSA", headers={"kid": authority.key_id, "typ": "at+jwt"}
    )
    authority.verify(expired)  # within the leeway, and looked at anew each time
    assert list(authority._verified.values())[-1][1] < time.time()


@pytest.mark.parametrize("header", ["Basic YWRtaW46YWRtaW4=", "Bearer", "bearer ", "", "Token x"])
def test_other_schemes(gateway, header):
    assert gateway.ask("GET", "/api/v1/data/runs", headers={"Authorization": header}).status_code == 401


def login(gateway, **body):
    return gateway.ask("POST", "/api/v1/auth/login", json=body)


def test_signing_in_gives_a_token_that_works(gateway):
    answer = login(gateway, username="admin", password=ADMIN_PASSWORD)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json()["access_token"]
    me = gateway.ask("GET", "/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"}).json()
    assert (me["username"], me["role"]) == ("admin", "admin")


def test_a_lesser_role_can_be_asked_for(gateway):
    token = login(gateway, username="admin", password=ADMIN_PASSWORD, role="viewer").json()["access_token"]
    answer = gateway.ask("POST", "/api/v1/cache/analytics", headers={"Authorization": f"Bearer {token}"}, data=b"{}")
    assert answer.status_code == 403


def test_a_higher_role_cannot(gateway):
    gateway.database.execute(
        "INSERT INTO users (username, password_hash, role)"
        " SELECT 'small', password_hash, 'viewer' FROM users WHERE username = 'admin' ON CONFLICT DO NOTHING"
    )
    assert login(gateway, username="small", password=ADMIN_PASSWORD, role="admin").status_code == 403
    assert login(gateway, username="small", password=ADMIN_PASSWORD).json()["role"] == "viewer"


def test_one_answer_for_every_reason(gateway):
    gateway.database.execute(
        "INSERT INTO users (username, password_hash, role, disabled)"
        " SELECT 'gone', password_hash, 'viewer', true FROM users WHERE username = 'admin' ON CONFLICT DO NOTHING"
    )
    answers = [
        login(gateway, username="admin", password="wrong password"),
        login(gateway, username="nobody", password="wrong password"),
        login(gateway, username="gone", password=ADMIN_PASSWORD),
        login(gateway, username="admin'; DROP TABLE users; --", password="x"),
    ]
    bodies = [{k: v for k, v in a.json().items() if k != "request_id"} for a in answers]
    assert all(a.status_code == 401 for a in answers)
    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"username":1}', b'{"username":"a","password":"b","admin":true}', b"\xff\xfe"]
)
def test_a_wrong_login_body_is_a_422(gateway, body):
    answer = gateway.ask("POST", "/api/v1/auth/login", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_huge_login_body_is_refused(gateway):
    answer = gateway.ask("POST", "/api/v1/auth/login", data=b"x" * 20_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413

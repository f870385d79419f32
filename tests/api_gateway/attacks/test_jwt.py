"""Access tokens that are not ours, not now, or not what they say (OWASP API2:2023, broken authentication).

Each attack starts from claims that are let in, which the first test shows: what refuses it is the one thing changed.
"""

import base64
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from gateway_support import KEYS, SEED
from ots_common.tokens import TYPE as INTERNAL_TYPE
from ots_common.tokens import Caller, sign_internal_token
from ots_gateway.access import Role

READ = "/api/v1/data/runs"


def claims(gateway, **changes):
    person = gateway.person()
    now = int(time.time())
    good = {
        "iss": "ai-ots", "aud": "ai-ots", "sub": person.user_id, "name": person.username, "role": "admin",
        "sid": person.session_id, "iat": now, "nbf": now, "exp": now + 60, "jti": "j",
    }  # fmt: skip
    return {k: v for k, v in {**good, **changes}.items() if v is not None}


def signed(gateway, body, key=None, algorithm="EdDSA", **header):
    headers = {"kid": gateway.keys.signer().kid, "typ": "at+jwt", **header}
    headers = {k: v for k, v in headers.items() if v is not None}
    return jwt.encode(body, key or gateway.keys.signer().private, algorithm=algorithm, headers=headers)


def by_hand(gateway, header, signature):
    """A token with any header, where the library would refuse to make it."""
    head = {"kid": gateway.keys.signer().kid, "typ": "at+jwt", **header}
    signing_input = f"{part(head)}.{part(claims(gateway))}"
    return f"{signing_input}.{part(signature(signing_input.encode()))}"


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def public_as(gateway, encoding, form):
    return gateway.keys.signer().public.public_bytes(encoding, form)


def raw(gateway):
    return gateway.keys.signer().public.public_bytes_raw()


def der(gateway):
    return public_as(gateway, serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(gateway):
    return public_as(gateway, serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def confused(gateway, secret):
    return by_hand(gateway, {"alg": "HS256"}, lambda text: hmac.digest(secret, text, "sha256"))


def own_key_in_header(gateway):
    mine = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": part(mine.public_key().public_bytes_raw())}
    return signed(gateway, claims(gateway), mine, jwk=jwk)


def tampered(gateway):
    head, body, signature = gateway.token(Role.VIEWER).split(".")
    data = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return f"{head}.{part({**data, 'role': 'admin'})}.{signature}"


def internal(gateway):
    """What a service is sent: it names a user and a role too."""
    caller = Caller("gateway", gateway.person().user_id, "somebody", "admin", "request-id")
    return sign_internal_token(caller, "cache", {"cache": SecretStr(KEYS["cache"])})


def now(seconds):
    return int(time.time()) + seconds


def other(gateway):
    return gateway.person("another").user_id


MINE = Ed25519PrivateKey.generate()
ATTACKS = {
    "alg none": lambda g: by_hand(g, {"alg": "none"}, lambda _: b""),
    "alg None": lambda g: by_hand(g, {"alg": "None"}, lambda _: b""),
    "alg none with a signature": lambda g: by_hand(g, {"alg": "none"}, g.keys.signer().private.sign),
    "no alg": lambda g: by_hand(g, {}, g.keys.signer().private.sign),
    "confusion: HS256 with the raw public key": lambda g: confused(g, raw(g)),
    "confusion: HS256 with the public key as DER": lambda g: confused(g, der(g)),
    "confusion: HS256 with the public key as PEM": lambda g: confused(g, pem(g)),
    "confusion: HS256 with the empty key": lambda g: confused(g, b""),
    "confusion: HS256 with the master secret": lambda g: confused(g, SEED.encode()),
    "confusion: ES256": lambda g: signed(g, claims(g), generate_private_key(SECP256R1()), "ES256"),
    "confusion: alg EdDSA signed as HS256": lambda g: by_hand(
        g, {"alg": "EdDSA"}, lambda text: hmac.digest(raw(g), text, "sha256")
    ),
    "another key under the right kid": lambda g: signed(g, claims(g), MINE),
    "the master secret as a signing seed": lambda g: signed(
        g, claims(g), Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(SEED + "="))
    ),
    "kid: a path": lambda g: signed(g, claims(g), kid="../../../../dev/null"),
    "kid: SQL": lambda g: signed(g, claims(g), kid="' UNION SELECT 'x"),
    "kid: a command": lambda g: signed(g, claims(g), kid="|/usr/bin/id"),
    "kid: an address": lambda g: signed(g, claims(g), kid="http://127.0.0.1:1/key"),
    "kid: empty": lambda g: signed(g, claims(g), kid=""),
    "kid: a number": lambda g: by_hand(g, {"alg": "EdDSA", "kid": 1}, g.keys.signer().private.sign),
    "kid: a list": lambda g: by_hand(g, {"alg": "EdDSA", "kid": ["a"]}, g.keys.signer().private.sign),
    "kid: NUL": lambda g: signed(g, claims(g), kid=g.keys.signer().kid + "\0"),
    "kid: none": lambda g: by_hand(g, {"alg": "EdDSA", "kid": None}, g.keys.signer().private.sign),
    "jwk in the header": own_key_in_header,
    "jku": lambda g: signed(g, claims(g), MINE, jku="http://127.0.0.1:1/keys"),
    "jku with the right signature": lambda g: signed(g, claims(g), jku="http://127.0.0.1:1/keys"),
    "x5u": lambda g: signed(g, claims(g), MINE, x5u="http://127.0.0.1:1/cert"),
    "x5c": lambda g: signed(g, claims(g), MINE, x5c=["MIIB"]),
    "crit": lambda g: signed(g, claims(g), crit=["exp"]),
    "crit unknown": lambda g: signed(g, claims(g), crit=["http://example.com/ext"], **{"http://example.com/ext": 1}),
    "b64 false": lambda g: by_hand(g, {"alg": "EdDSA", "b64": False, "crit": ["b64"]}, g.keys.signer().private.sign),
    "zip": lambda g: signed(g, claims(g), zip="DEF"),
    "typ JWT": lambda g: signed(g, claims(g), typ="JWT"),
    "typ none": lambda g: by_hand(g, {"alg": "EdDSA", "typ": None}, g.keys.signer().private.sign),
    "typ of an internal token": lambda g: signed(g, claims(g), typ=INTERNAL_TYPE),
    "typ of an ID token": lambda g: signed(g, claims(g), typ="id+jwt"),
    "an internal token": internal,
    "a refresh token": lambda g: g.grant(g.person().username).refresh_token,
    "exp past": lambda g: signed(g, claims(g, exp=now(-60))),
    "exp missing": lambda g: signed(g, claims(g, exp=None)),
    "exp text": lambda g: signed(g, claims(g, exp="never")),
    "exp infinite": lambda g: signed(g, claims(g, exp=1e400)),
    "nbf to come": lambda g: signed(g, claims(g, nbf=now(600))),
    "nbf missing": lambda g: signed(g, claims(g, nbf=None)),
    "iat to come": lambda g: signed(g, claims(g, iat=now(600))),
    "iat missing": lambda g: signed(g, claims(g, iat=None)),
    "aud of a service": lambda g: signed(g, claims(g, aud="cache")),
    "aud missing": lambda g: signed(g, claims(g, aud=None)),
    "aud a list with ours in it": lambda g: signed(g, claims(g, aud=["ai-ots", "cache"])),
    "iss of somebody": lambda g: signed(g, claims(g, iss="https://example.com")),
    "iss missing": lambda g: signed(g, claims(g, iss=None)),
    "sub of another": lambda g: signed(g, claims(g, sub=other(g))),
    "sub missing": lambda g: signed(g, claims(g, sub=None)),
    "sub SQL": lambda g: signed(g, claims(g, sub="' OR 1=1 --")),
    "sid unknown": lambda g: signed(g, claims(g, sid="6f3c0c8e-0000-4000-8000-000000000000")),
    "sid missing": lambda g: signed(g, claims(g, sid=None)),
    "sid SQL": lambda g: signed(g, claims(g, sid="' OR 1=1 --")),
    "jti missing": lambda g: signed(g, claims(g, jti=None)),
    "role missing": lambda g: signed(g, claims(g, role=None)),
    "role unknown": lambda g: signed(g, claims(g, role="root")),
    "role tampered": tampered,
    "signature stripped": lambda g: g.token(Role.ADMIN).rsplit(".", 1)[0] + ".",
    "signature of another token": lambda g: (
        g.token(Role.ADMIN).rsplit(".", 1)[0] + "." + g.token(Role.VIEWER).rsplit(".", 1)[1]
    ),
    "four parts": lambda g: g.token(Role.ADMIN) + ".x",
    "claims no object": lambda g: f"{part({'alg': 'EdDSA', 'kid': g.keys.signer().kid, 'typ': 'at+jwt'})}.{part([])}.x",
    "header nested deeply": lambda _: f"{part(b'[' * 4000)}.{part({})}.x",
    "header not UTF-8": lambda _: f"{part(bytes([255, 254]))}.{part({})}.x",
    "garbage": lambda _: "a.b.c",
    "two dots": lambda _: "..",
    "long": lambda _: "a" * 7000,
}  # fmt: skip


def test_the_claims_that_attacks_start_from_are_let_in(gateway):
    token = signed(gateway, claims(gateway))
    assert gateway.ask("GET", READ, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    token = by_hand(gateway, {"alg": "EdDSA"}, gateway.keys.signer().private.sign)
    assert gateway.ask("GET", READ, headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attack(gateway, attack):
    answer = gateway.ask("GET", READ, headers={"Authorization": f"Bearer {attack(gateway)}"})
    assert answer.status_code == 401, answer.text
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_a_remembered_token_lends_nothing_to_another(gateway):
    for _ in range(2):
        good = gateway.token(Role.VIEWER)
        head, body, signature = good.split(".")
        for token, status in ((good, 200), (good, 200), (f"{head}.{body}.{signature[::-1]}", 401), (f"{good}x", 401)):
            asked = gateway.ask("GET", READ, headers={"Authorization": f"Bearer {token}"})
            assert asked.status_code == status


def test_a_name_in_a_token_is_not_believed(gateway):
    """Whose name the services and the audit log are told is what the database says."""
    token = signed(gateway, claims(gateway, name="admin\r\nrole: admin"))
    seen = gateway.ask("GET", READ, headers={"Authorization": f"Bearer {token}"}).json()
    assert gateway.caller_of(seen, "data-ingestion").username == "somebody"


@pytest.mark.parametrize("header", ["Basic YWRtaW46YWRtaW4=", "Bearer", "bearer ", "", "Token x", "Bearer\tx"])
def test_other_schemes(gateway, header):
    assert gateway.ask("GET", READ, headers={"Authorization": header}).status_code == 401


def test_a_token_in_the_query_or_a_cookie_is_no_token(gateway):
    token = gateway.token(Role.ADMIN)
    assert gateway.ask("GET", f"{READ}?access_token={token}").status_code == 401
    assert gateway.ask("GET", READ, headers={"Cookie": f"access_token={token}"}).status_code == 401


def test_refusals_tell_no_secret_and_no_reason_that_helps(gateway):
    """API8:2023: one text for everything that is not ours."""
    texts = {
        gateway.ask("GET", READ, headers={"Authorization": f"Bearer {attack(gateway)}"}).json()["detail"]
        for name, attack in ATTACKS.items()
        if name.startswith(("alg", "confusion", "kid", "jwk", "typ", "aud", "iss"))
    }
    assert texts == {"not a token of this platform"}

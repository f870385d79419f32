"""Who may call whom."""

import time

import jwt
import pytest
from pydantic import SecretStr

from ots_common.tokens import TYPE, Caller, InvalidInternalToken, sign_internal_token, verify_internal_token

KEY, OTHER = SecretStr("a" * 40), SecretStr("b" * 40)
CALLER = Caller("gateway", "user-1", "somebody", "viewer", "request-0001")


def test_a_token_says_who_calls_for_whom():
    token = sign_internal_token(CALLER, "cache", {"cache": KEY})
    assert verify_internal_token(token, "cache", {"gateway": KEY}) == CALLER


def test_nobody_signs_for_whom_it_may_not_call():
    with pytest.raises(KeyError):
        sign_internal_token(CALLER, "analytics", {"cache": KEY})


@pytest.mark.parametrize(
    ("audience", "keys"),
    [("analytics", {"gateway": KEY}), ("cache", {"gateway": OTHER}), ("cache", {"analytics": KEY}), ("cache", {})],
    ids=["another audience", "another key", "a caller not allowed", "nobody allowed"],
)
def test_refused(audience, keys):
    token = sign_internal_token(CALLER, "cache", {"cache": KEY})
    with pytest.raises(InvalidInternalToken):
        verify_internal_token(token, audience, keys)


@pytest.mark.parametrize(
    "changes",
    [{"exp": 1}, {"exp": int(time.time()) + 3600}, {"aud": "data"}, {"iss": "analytics"}, {"sub": None}, {"exp": None}],
)
def test_wrong_claims_are_refused(changes):
    now = int(time.time())
    good = {
        "iss": "gateway",
        "aud": "cache",
        "sub": "u",
        "name": "n",
        "role": "viewer",
        "rid": "r",
        "iat": now,
        "exp": now + 30,
    }
    claims = {k: v for k, v in {**good, **changes}.items() if v is not None}
    token = jwt.encode(claims, KEY.get_secret_value(), algorithm="HS256", headers={"typ": TYPE, "kid": "gateway"})
    with pytest.raises(InvalidInternalToken):
        verify_internal_token(token, "cache", {"gateway": KEY})


@pytest.mark.parametrize("token", ["", "a.b.c", "nonsense"])
def test_garbage_is_refused(token):
    with pytest.raises(InvalidInternalToken):
        verify_internal_token(token, "cache", {"gateway": KEY})

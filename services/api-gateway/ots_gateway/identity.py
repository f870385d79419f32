"""Who a request speaks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ots_gateway.access import Role
from ots_gateway.metrics import AuthFailure


class InvalidTokenError(Exception):
    """The credential is missing, broken, expired, revoked, or not ours; its text may be told to the client.

    ``why``: as it is counted.
    """

    def __init__(self, text: str, why: AuthFailure) -> None:
        super().__init__(text)
        self.why = why


@dataclass(frozen=True)
class User:
    """Who a credential speaks for, in the role that it may use now.

    ``scopes`` None: all of them. ``token_id`` is the token's ``jti`` or the key's id, ``session_id`` the sign-in that a
    token belongs to; a key has none.
    """

    user_id: str
    username: str
    role: Role
    scopes: frozenset[str] | None = None
    credential: Literal["token", "key"] = "token"
    token_id: str = ""
    session_id: str | None = None

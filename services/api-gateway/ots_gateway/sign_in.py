"""Whether a password is that of a user: the one way to ask, the same to all who fail.

Whoever fails learns nothing but that they did: no such user, a disabled one, a wrong password and a locked account all
take one turn, one look-up, one argon2 and two commits, and are answered by the same None.
"""

from __future__ import annotations

from ots_common.problems import Problem
from ots_gateway.lockout import Lockout
from ots_gateway.metrics import count_auth_failure
from ots_gateway.passwords import PasswordChecker
from ots_gateway.users import Credentials, Users, canonical_username

_NOBODY = ""


class SignIn:
    """Checks passwords, counted."""

    def __init__(self, users: Users, lockout: Lockout, checker: PasswordChecker) -> None:
        self._users = users
        self._lockout = lockout
        self._checker = checker

    def check(self, username: str, password: str, address: str) -> Credentials | None:
        """The user whose password this is; None for every reason not to let them in.

        Raises problems: 429 when the address failed too often, 503 when too many passwords are being checked.
        """
        waits_s = self._lockout.address_waits_s(address)
        if waits_s:
            count_auth_failure("address")
            raise Problem(
                429,
                "too-many-failures",
                "too many attempts to sign in from your address have failed",
                headers={"Retry-After": str(waits_s)},
            )
        with self._checker.turn():
            counted_as = canonical_username(username) or username
            attempt = self._lockout.begin(counted_as, address)
            found = self._users.credentials(canonical_username(username) or _NOBODY)
            right = self._checker.matches(password, found.password_hash if found else None)
            if found is not None and right and attempt.admitted:
                self._lockout.succeeded(attempt)
                return found
            self._lockout.failed(attempt)
            count_auth_failure("password" if attempt.admitted else "locked")
            return None

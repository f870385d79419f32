"""Guessing passwords gets slow: per account, and per address.

An account may fail :attr:`~GatewaySettings.login_failures_per_account` times; from then on each failure closes it for
twice as long as the one before, from one second to fifteen minutes, and while it is closed the right password is told
the same as a wrong one: an answer that differed would let a guesser go on. It opens by itself, and a sign-in that
succeeds clears the count. So that a stranger cannot keep a user out, an address from which the user has signed in
within 30 days has a count of its own for that account, which failures elsewhere do not touch.

What is counted is whatever was typed as the username, whether there is such a user or not: to be locked tells nothing.
An address that fails too often, whatever the accounts, is refused with 429 before any password is looked at.

Before the limit, the count is raised after a failure (so many sign-ins at once do not lock their user out); past it,
before the password is looked at, so that attempts made at the same time do not share one turn.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.database import Database
from ots_gateway.metrics import LOCKOUTS

FORGET_AFTER = "24 hours"
LOCKED_AT_MOST_S = 900


@dataclass(frozen=True)
class Attempt:
    """One look at a password. ``admitted`` False: whatever it is, the answer is no."""

    account: bytes
    address: bytes
    admitted: bool
    counted: bool


class Lockout:
    """The counts in the accounts database, the same for all gateways. Everything raises psycopg2.Error."""

    def __init__(self, database: Database, *, per_account: int, per_address: int) -> None:
        self._database = database
        self._per_account = per_account
        self._per_address = per_address

    def address_waits_s(self, address: str) -> int:
        """How many seconds this address must wait; 0 when it need not."""
        rows = self._database.rows(
            "SELECT ceil(extract(epoch FROM locked_until - now()))::integer FROM login_failures"
            " WHERE subject = %s AND locked_until > now()",
            (_subject("address", network_of(address)),),
        )
        return max(1, int(rows[0][0])) if rows else 0

    def begin(self, username: str, address: str) -> Attempt:
        """Before a password is looked at."""
        network = network_of(address)
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT 1 FROM users u JOIN sessions s USING (user_id) WHERE u.username = %s"
                " AND s.address = %s AND s.created_at > now() - interval '30 days')",
                (username, network),
            )
            known = bool((cursor.fetchone() or (False,))[0])
            account = _subject("account", username, network if known else "")
            failures, locked = _take(cursor, account)
            counted = not locked and failures >= self._per_account
            if counted:
                _count(cursor, account, _penalty_s(failures + 1 - self._per_account))
            return Attempt(account, _subject("address", network), not locked, counted)

    def failed(self, attempt: Attempt) -> None:
        """The password was wrong, or the attempt was not admitted; costs the same either way."""
        with self._database.connection() as connection, connection.cursor() as cursor:
            failures, _ = _take(cursor, attempt.account)
            closes_account = attempt.counted
            if attempt.admitted and not attempt.counted:
                penalty_s = _penalty_s(failures + 1 - self._per_account)
                closes_account = penalty_s > 0
                _count(cursor, attempt.account, penalty_s)
            failures, _ = _take(cursor, attempt.address)
            penalty_s = _penalty_s(failures + 1 - self._per_address)
            _count(cursor, attempt.address, penalty_s)
        LOCKOUTS.inc(closes_account + (penalty_s > 0))

    def succeeded(self, attempt: Attempt) -> None:
        """The password was right: the account's count begins anew; the address's does not, an attacker may have an
        account of their own.
        """
        self._database.execute("DELETE FROM login_failures WHERE subject = %s", (attempt.account,))

    def clear(self, username: str) -> None:
        """Open an account to everybody who knows its password."""
        self._database.execute("DELETE FROM login_failures WHERE subject = %s", (_subject("account", username, ""),))


def network_of(address: str) -> str:
    """The address, or of IPv6 the /64 that one customer has; what is none stands as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def _subject(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def _penalty_s(over: int) -> int:
    return 0 if over < 0 else min(LOCKED_AT_MOST_S, 2 ** min(over, 20))


def _take(cursor: Cursor, subject: bytes) -> tuple[int, bool]:
    """Lock the row of a subject until the commit: its count, begun anew after a day, and whether it is closed."""
    cursor.execute(
        "INSERT INTO login_failures AS f (subject, attempts) VALUES (%s, 1) ON CONFLICT (subject) DO UPDATE SET"
        " attempts = f.attempts + 1,"
        f" failures = CASE WHEN f.last_at < now() - interval '{FORGET_AFTER}' THEN 0 ELSE f.failures END,"
        " last_at = now() RETURNING failures, coalesce(locked_until > now(), false)",
        (subject,),
    )
    failures, locked = cursor.fetchone() or (0, False)
    return int(failures), bool(locked)


def _count(cursor: Cursor, subject: bytes, penalty_s: int) -> None:
    cursor.execute(
        "UPDATE login_failures SET failures = failures + 1, locked_until = CASE WHEN %s > 0"
        " THEN now() + make_interval(secs => %s) ELSE locked_until END WHERE subject = %s",
        (penalty_s, penalty_s, subject),
    )

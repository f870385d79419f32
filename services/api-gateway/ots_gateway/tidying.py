"""What the accounts database need not keep."""

from __future__ import annotations

from ots_common.database import Database


def tidy(database: Database) -> None:
    """Delete sessions (and their refresh tokens) a month after their end, and failures to sign in after two days.

    Sessions stay so long because they say from which addresses a user has signed in.
    """
    database.execute("DELETE FROM sessions WHERE least(expires_at, ended_at) < now() - interval '30 days'")
    database.execute("DELETE FROM login_failures WHERE last_at < now() - interval '2 days'")

"""Users, and ``python -m ots_gateway.accounts ensure-admin``: the first, made at provisioning."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import psycopg2
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from ots_common.database import Database
from ots_gateway.access import Role
from ots_gateway.passwords import PasswordChecker, hash_password

ADMIN = "admin"


@dataclass(frozen=True)
class Account:
    """A user as stored."""

    user_id: str
    username: str
    password_hash: str
    role: Role


class AccountSettings(BaseSettings):
    """What the command needs; ``admin_password`` comes from the environment, never from a default."""

    database_url: SecretStr
    admin_password: SecretStr


def find_account(database: Database, username: str) -> Account | None:
    """The account of ``username`` unless it is disabled."""
    rows = database.rows(
        "SELECT user_id::text, username, password_hash, role FROM users WHERE username = %s AND NOT disabled",
        (username,),
    )
    return Account(rows[0][0], rows[0][1], rows[0][2], Role.named(rows[0][3])) if rows else None


def ensure_admin(database: Database, password: str, *, reset_password: bool) -> str | None:
    """Make the user ``admin`` when there is none, and bring its password in line where asked; what was done."""
    account = find_account(database, ADMIN)
    if account is None:
        made = database.execute(
            "INSERT INTO users (username, password_hash, role) VALUES (%s, %s, 'admin') ON CONFLICT DO NOTHING",
            (ADMIN, hash_password(password)),
        )
        return "made the user admin" if made else None
    if reset_password and not PasswordChecker().matches(password, account.password_hash):
        database.execute("UPDATE users SET password_hash = %s WHERE username = %s", (hash_password(password), ADMIN))
        return "set the password of admin"
    return None


def main() -> int:
    """Run the command; one clear line on failure."""
    parser = argparse.ArgumentParser(prog="python -m ots_gateway.accounts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ensure = commands.add_parser("ensure-admin", help="make the user admin with ADMIN_PASSWORD, unless there is one")
    ensure.add_argument("--reset-password", action="store_true", help="also set its password when it differs")
    arguments = parser.parse_args()
    try:
        settings = AccountSettings()
    except ValidationError as error:
        names = ", ".join(str(item["loc"][0]).upper() for item in error.errors())
        print(f"accounts: set {names}", file=sys.stderr)
        return 1
    password = settings.admin_password.get_secret_value()
    if len(password) < 12:
        print("accounts: ADMIN_PASSWORD must have at least 12 characters", file=sys.stderr)
        return 1
    database = Database(settings.database_url.get_secret_value(), application="accounts", size=1)
    try:
        done = ensure_admin(database, password, reset_password=arguments.reset_password)
    except psycopg2.Error as error:
        print(f"accounts: {str(error).strip()}", file=sys.stderr)
        return 1
    if done:
        print(f"accounts: {done}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

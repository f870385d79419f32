"""Users, and ``python -m ots_gateway.accounts ensure-admin``: the first, made at provisioning."""

from __future__ import annotations

import argparse
import sys

import psycopg2
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from ots_common.database import Database
from ots_gateway.lockout import Lockout
from ots_gateway.passwords import PasswordChecker, hash_password, objection
from ots_gateway.users import Users

ADMIN = "admin"


class AccountSettings(BaseSettings):
    """What the command needs; ``admin_password`` comes from the environment, never from a default."""

    database_url: SecretStr
    admin_password: SecretStr


def ensure_admin(database: Database, password: str, *, reset_password: bool) -> str | None:
    """Make the user ``admin`` when there is none, and bring its password in line where asked; what was done.

    Setting it ends its sessions and opens the account when too many guesses had closed it.
    """
    users = Users(database)
    found = users.credentials(ADMIN)
    if found is None:
        made = database.execute(
            "INSERT INTO users (username, password_hash, role) VALUES (%s, %s, 'admin') ON CONFLICT DO NOTHING",
            (ADMIN, hash_password(password)),
        )
        return "made the user admin" if made else None
    if reset_password:
        Lockout(database, per_account=1, per_address=1).clear(ADMIN)
        checker = PasswordChecker()
        if not checker.matches(password, found.password_hash):
            users.set_password(found.user_id, hash_password(password), keep_session=None)
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
    if problem := objection(password, ADMIN):
        print(f"accounts: ADMIN_PASSWORD: {problem}", file=sys.stderr)
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

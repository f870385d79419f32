"""Databases as provisioning makes them, and who may open them."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2.extensions import make_dsn, parse_dsn

from ots_common.database import Connection, Database, connect
from ots_common.provision import ProvisionSettings
from places import MIGRATIONS

PASSWORDS = {
    "ots": "owner-password",
    "ots_reader": "reader-password",
    "ots_snapshots": "snapshots-password",
    "ots_signals": "signals-password",
    "ots_accounts": "accounts-password",
    "ots_grafana": "grafana-password",
    "ots_monitor": "monitor-password",
}


def as_role(admin_url: str, role: str, database: str) -> str:
    """The DSN of one of our roles on the administrator's server, over TCP."""
    host = parse_dsn(admin_url)["host"]
    host = "127.0.0.1" if host.startswith("/") else host
    return make_dsn(admin_url, host=host, user=role, password=PASSWORDS[role], dbname=database)


def settings_for(admin_url: str, name: str) -> ProvisionSettings:
    return ProvisionSettings(
        admin_database_url=admin_url,
        market_database=f"market_{name}",
        accounts_database=f"accounts_{name}",
        db_password_owner=PASSWORDS["ots"],
        db_password_reader=PASSWORDS["ots_reader"],
        db_password_snapshots=PASSWORDS["ots_snapshots"],
        db_password_signals=PASSWORDS["ots_signals"],
        db_password_accounts=PASSWORDS["ots_accounts"],
        db_password_grafana=PASSWORDS["ots_grafana"],
        db_password_monitor=PASSWORDS["ots_monitor"],
        migrations_dir=MIGRATIONS,
    )


def administer(admin_url: str, *statements: str) -> None:
    """Run statements as the administrator, each in a transaction of its own."""
    connection = connect(admin_url, application="tests")
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


@dataclass(frozen=True)
class FlavouredDatabase:
    """``owner`` and ``reader``: DSNs; ``database``: a pool of the owner's connections."""

    flavour: str
    owner: str
    reader: str
    database: Database

    def connect(self) -> Connection:
        """A connection of one's own, as the owner."""
        return connect(self.owner, application="tests")

"""The keys that sign users' tokens, and ``python -m ots_gateway.signing_keys list|publish|sign|retire``.

They live in the accounts database, sealed under a key derived from ``JWT_SIGNING_KEY``, so that every worker of every
gateway has the same ones and a copy of the database signs nothing. A key is ``published`` (verifiers learn it), then
``signing`` (one at a time), then ``verifying`` (its tokens still live), then ``retired``. What does not open under this
``JWT_SIGNING_KEY``, or is not the key that its ``kid`` is the thumbprint of, is no key: a row planted in the table
signs nothing either.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import hashlib
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings

from ots_common.database import Database
from ots_gateway.audit_log import Entry, append

log = structlog.get_logger(__name__)

ALGORITHM = "EdDSA"
JWKS_MAX_AGE_S = 300
_RELOAD_S = 5.0
_UNKNOWN_RELOAD_S = 1.0
_LOCK = 0x4F54534B4559  # "OTSKEY"
_NONCE_BYTES = 12


class KeyStateError(Exception):
    """The key is not in a state in which this may be done to it."""


@dataclass(frozen=True)
class SigningKey:
    """One key, of one algorithm; ``state`` as in the table."""

    kid: str
    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    state: str

    @property
    def jwk(self) -> dict[str, str]:
        """Its public half (RFC 8037)."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _base64url(self.public.public_bytes_raw()),
            "kid": self.kid,
            "alg": ALGORITHM,
            "use": "sig",
        }


class Vault:
    """Seals seeds under a key derived from the base64url of 32 bytes. Raises ValueError when it is given none."""

    def __init__(self, master: str) -> None:
        try:
            raw = base64.urlsafe_b64decode(master + "=" * (-len(master) % 4))
        except ValueError as error:
            raise ValueError("JWT_SIGNING_KEY must be the base64url of 32 bytes") from error
        if len(raw) != 32:
            raise ValueError("JWT_SIGNING_KEY must be the base64url of 32 bytes")
        self._sealer = AESGCM(_derive(raw, b"ai-ots signing keys: sealing", 32))
        self.name = _derive(raw, b"ai-ots signing keys: name", 8).hex()

    def seal(self, kid: str, seed: bytes) -> bytes:
        """Nonce and ciphertext of a key's seed."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._sealer.encrypt(nonce, seed, _bound_to(kid))

    def open(self, kid: str, sealed: bytes, state: str) -> SigningKey | None:
        """The key, or None when it was not sealed here as ``kid``."""
        try:
            seed = self._sealer.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(kid))
            key = _key_of(seed, state)
        except (InvalidTag, ValueError):
            return None
        return key if key.kid == kid else None


class KeySet:
    """The keys as of at most five seconds ago. The first use of an empty table makes the first key."""

    def __init__(self, database: Database, master: str) -> None:
        self._database = database
        self._vault = Vault(master)
        self._keys: dict[str, SigningKey] = {}
        self._loaded = -1e9
        self._loading = threading.Lock()

    def signer(self) -> SigningKey:
        """The key that signs now. Raises psycopg2.Error."""
        self.reload_after(_RELOAD_S)
        signing = [key for key in self._keys.values() if key.state == "signing"]
        if not signing:
            _make_first(self._database, self._vault)
            self.reload_after(0.0)
            signing = [key for key in self._keys.values() if key.state == "signing"]
        return signing[0]

    def find(self, kid: object) -> SigningKey | None:
        """The key of that ``kid`` unless it is retired. Raises psycopg2.Error.

        A ``kid`` that is not known is looked up anew, but not more than once a second: it costs an attacker nothing to
        make one up.
        """
        self.reload_after(_RELOAD_S)
        if kid not in self._keys:
            self.reload_after(_UNKNOWN_RELOAD_S)
        return self._keys.get(kid) if isinstance(kid, str) else None

    def public(self) -> list[dict[str, str]]:
        """The JWKS: every key that may be met in a token, now or soon."""
        self.signer()
        return [key.jwk for key in sorted(self._keys.values(), key=lambda key: key.kid)]

    def reload_after(self, seconds: float) -> None:
        """Read the table anew when what is known is older than that."""
        if time.monotonic() - self._loaded <= seconds:
            return
        with self._loading:
            if time.monotonic() - self._loaded <= seconds:
                return
            asked = time.monotonic()
            rows = self._database.rows(
                "SELECT kid, sealed_seed, state FROM signing_keys WHERE sealed_under = %s AND state <> 'retired'",
                (self._vault.name,),
            )
            opened = {kid: self._vault.open(kid, bytes(sealed), state) for kid, sealed, state in rows}
            for kid in (kid for kid, key in opened.items() if key is None):
                log.error("signing_key_does_not_open", kid=kid)
            self._keys = {kid: key for kid, key in opened.items() if key is not None}
            self._loaded = asked


def publish(database: Database, vault: Vault) -> str:
    """Make a key that verifiers can learn of before it signs; its ``kid``."""
    seed = os.urandom(32)
    kid = _key_of(seed, "published").kid
    database.execute(
        "INSERT INTO signing_keys (kid, algorithm, sealed_seed, sealed_under, state)"
        " VALUES (%s, %s, %s, %s, 'published')",
        (kid, ALGORITHM, vault.seal(kid, seed), vault.name),
    )
    return kid


def sign_with(database: Database, vault: Vault, kid: str | None, *, now: bool) -> str:
    """Let a published key sign (None: the oldest published); the one before it goes on verifying.

    Raises :class:`KeyStateError`: no such published key, or, unless ``now``, published so lately that a verifier may
    hold a JWKS without it.
    """
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute(
            "SELECT kid, extract(epoch FROM now() - created_at) FROM signing_keys"
            " WHERE sealed_under = %s AND state = 'published' AND (%s::text IS NULL OR kid = %s)"
            " ORDER BY created_at LIMIT 1",
            (vault.name, kid, kid),
        )
        found = cursor.fetchone()
        if found is None:
            raise KeyStateError("there is no such published key: publish one first")
        chosen, age_s = str(found[0]), float(found[1])
        if age_s < JWKS_MAX_AGE_S and not now:
            raise KeyStateError(
                f"{chosen} was published {age_s:.0f} s ago: wait until {JWKS_MAX_AGE_S} s, or say --now"
            )
        cursor.execute(
            "UPDATE signing_keys SET state = 'verifying', signed_until = now()"
            " WHERE sealed_under = %s AND state = 'signing'",
            (vault.name,),
        )
        cursor.execute("UPDATE signing_keys SET state = 'signing', signed_from = now() WHERE kid = %s", (chosen,))
    return chosen


def retire(database: Database, vault: Vault, kid: str, token_ttl_s: int, *, now: bool) -> None:
    """End a key: its tokens are refused from then on.

    Raises :class:`KeyStateError`: no such key, it signs, or, unless ``now``, tokens of it may still live.
    """
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute(
            "SELECT state, extract(epoch FROM now() - signed_until) FROM signing_keys"
            " WHERE kid = %s AND sealed_under = %s",
            (kid, vault.name),
        )
        found = cursor.fetchone()
        if found is None or found[0] == "retired":
            raise KeyStateError("there is no such key")
        if found[0] == "signing":
            raise KeyStateError("it signs: let another sign first")
        if found[1] is not None and float(found[1]) < token_ttl_s + _RELOAD_S and not now:
            raise KeyStateError(f"its last tokens live {token_ttl_s - float(found[1]):.0f} s more: wait, or say --now")
        cursor.execute("UPDATE signing_keys SET state = 'retired', retired_at = now() WHERE kid = %s", (kid,))


def _make_first(database: Database, vault: Vault) -> None:
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute("SELECT 1 FROM signing_keys WHERE sealed_under = %s AND state = 'signing'", (vault.name,))
        if cursor.fetchone() is not None:
            return
        seed = os.urandom(32)
        kid = _key_of(seed, "signing").kid
        cursor.execute(
            "INSERT INTO signing_keys (kid, algorithm, sealed_seed, sealed_under, state, signed_from)"
            " VALUES (%s, %s, %s, %s, 'signing', now())",
            (kid, ALGORITHM, vault.seal(kid, seed), vault.name),
        )


def _key_of(seed: bytes, state: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key()
    return SigningKey(_thumbprint(public.public_bytes_raw()), private, public, state)


def _thumbprint(public: bytes) -> str:
    """RFC 7638, of the JWK of an Ed25519 key (RFC 8037)."""
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": _base64url(public)}, separators=(",", ":"))
    return _base64url(hashlib.sha256(jwk.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bound_to(kid: str) -> bytes:
    return f"{ALGORITHM} {kid}".encode()


def _derive(master: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(master)


class CommandSettings(BaseSettings):
    """What the command needs."""

    database_url: SecretStr
    jwt_signing_key: SecretStr
    access_token_ttl_s: int = Field(3600)


def _listing(database: Database, vault: Vault) -> str:
    rows = database.rows(
        "SELECT kid, CASE WHEN sealed_under = %s THEN state ELSE state || ', of another JWT_SIGNING_KEY' END,"
        " created_at, signed_from, signed_until, retired_at FROM signing_keys ORDER BY created_at",
        (vault.name,),
    )

    def shown(value: Any) -> str:
        return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value or "-")

    head = ("kid", "state", "created", "signed from", "signed until", "retired")
    return "\n".join("\t".join(shown(value) for value in row) for row in (head, *rows))


def _run(arguments: argparse.Namespace, settings: CommandSettings, database: Database) -> str:
    vault = Vault(settings.jwt_signing_key.get_secret_value())
    if arguments.command == "list":
        return _listing(database, vault)
    if arguments.command == "publish":
        kid = publish(database, vault)
        done = f"published {kid}"
    elif arguments.command == "sign":
        kid = sign_with(database, vault, arguments.kid, now=arguments.now)
        done = f"{kid} signs"
    else:
        kid = arguments.kid
        retire(database, vault, kid, settings.access_token_ttl_s, now=arguments.now)
        done = f"retired {kid}"
    append(
        database,
        [
            Entry(
                request_id="command",
                username=getpass.getuser()[:64],
                address="local",
                method="COMMAND",
                path=f"signing_keys {arguments.command}",
                status=0,
                event="signing_key",
                detail=json.dumps({"kid": kid}),
            )
        ],
    )
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ots_gateway.signing_keys", description="Keys that sign tokens")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all keys and their states")
    commands.add_parser("publish", help="make a key; it verifies, but does not sign yet")
    sign = commands.add_parser("sign", help="let a published key sign; the one before goes on verifying")
    sign.add_argument("kid", nargs="?", help="the oldest published one when left out")
    ending = commands.add_parser("retire", help="refuse the tokens of a key from now on")
    ending.add_argument("kid")
    for command in (sign, ending):
        command.add_argument("--now", action="store_true", help="do not wait: a key was stolen")
    return parser


def main() -> int:
    """Run the command; one clear line on failure."""
    arguments = _parser().parse_args()
    try:
        settings = CommandSettings()
    except ValidationError as error:
        names = ", ".join(str(item["loc"][0]).upper() for item in error.errors())
        print(f"signing_keys: set {names}", file=sys.stderr)
        return 1
    database = Database(settings.database_url.get_secret_value(), application="signing_keys", size=1)
    try:
        print(_run(arguments, settings, database))
    except (psycopg2.Error, KeyStateError, ValueError) as error:
        print(f"signing_keys: {str(error).strip()}", file=sys.stderr)
        return 1
    finally:
        database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

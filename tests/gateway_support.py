"""A gateway under gunicorn with gevent workers, as in production, in front of a service that tells what it was sent."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr

from ots_common.database import Database
from ots_common.tokens import verify_internal_token
from ots_gateway.access import Role
from ots_gateway.authentication import BOUND_S
from ots_gateway.passwords import hash_password
from ots_gateway.sessions_of_users import Granted, Sessions
from ots_gateway.signing_keys import KeySet
from ots_gateway.user_tokens import TokenAuthority

KEYS = {name: secrets.token_urlsafe(32) for name in ("cache", "data-ingestion", "analytics", "signals")}
SEED = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
METRICS_TOKEN = secrets.token_urlsafe(32)
ADMIN_PASSWORD = secrets.token_urlsafe(16)


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked; some paths misbehave."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def body(self) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while count := int(self.rfile.readline(), 16):
                data = self.rfile.read(count)
                self.rfile.readline()
                digest.update(data)
                size += len(data)
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                data = self.rfile.read(min(left, 65536))
                digest.update(data)
                size, left = size + len(data), left - len(data)
        return size, digest.hexdigest()

    def handle_any(self) -> None:
        if self.path == "/health":
            return self.reply(200, {"status": self.server.state})  # type: ignore[attr-defined]
        if self.path.endswith("/BREAK"):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        if self.path.endswith("/SLOW"):
            time.sleep(3)
        if self.path.endswith("/BIG"):
            self.send_response(200)
            self.send_header("Content-Length", str(64 * 2**20))
            self.end_headers()
            for _ in range(64):
                self.wfile.write(bytes(2**20))
            return None
        size, digest = self.body()
        seen = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "size": size,
            "sha256": digest,
        }
        return self.reply(200, seen)

    do_GET = do_POST = do_DELETE = do_PUT = handle_any

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()

    def reply(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-From-Upstream", "yes")
        self.end_headers()
        self.wfile.write(data)


@dataclass(frozen=True)
class Person:
    """A user with a session of their own, as the database has them."""

    user_id: str
    username: str
    session_id: str


@dataclass
class Gateway:
    """The running gateway, and keys to it: tokens are signed with its own, for users and sessions that exist."""

    url: str
    pid: int
    database: Database
    upstream: ThreadingHTTPServer
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    @cached_property
    def authority(self) -> TokenAuthority:
        return TokenAuthority(self.keys, 600)

    @cached_property
    def keys(self) -> KeySet:
        return KeySet(self.database, SEED)

    def sessions(self) -> Sessions:
        return Sessions(self.database, SimpleNamespace(session_ttl_s=3600, refresh_token_ttl_s=3600))  # type: ignore[arg-type]

    def grant(self, username: str) -> Granted:
        """A session of a user with its refresh token."""
        user_id, password_hash = self.database.rows(
            "SELECT user_id::text, password_hash FROM users WHERE username = %s", (username,)
        )[0]
        granted = self.sessions().open(user_id, password_hash, None, "tests")
        assert granted is not None
        return granted

    def person(self, username: str = "somebody", role: Role = Role.ADMIN, password: str | None = None) -> Person:
        """A new session of a user, who is made when missing and without a password that anybody knows."""
        hashed = hash_password(password) if password else "!"
        self.database.execute(
            "INSERT INTO users (username, password_hash, role) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (username, hashed, role.label),
        )
        user_id, session_id = self.database.rows(
            "INSERT INTO sessions (user_id, address, expires_at) SELECT user_id, 'tests', now() + interval '1 hour'"
            " FROM users WHERE username = %s RETURNING user_id::text, session_id::text",
            (username,),
        )[0]
        return Person(user_id, username, session_id)

    def token(self, role: Role | None) -> str | None:
        """A token of ``role`` for the user `somebody`, who is an admin; a new one each time."""
        return None if role is None else self.token_of(self.person(), role)

    def token_of(self, person: Person, role: Role = Role.ADMIN) -> str:
        return self.authority.sign(
            user_id=person.user_id,
            username=person.username,
            role=role,
            session_id=person.session_id,
            session_ends=time.time() + 3600,
        )

    def ask(self, method: str, path: str, role: Role | None = None, **arguments: Any) -> requests.Response:
        headers = {**arguments.pop("headers", {})}
        if token := self.token(role):
            headers["Authorization"] = f"Bearer {token}"
        return requests.request(method, self.url + path, headers=headers, timeout=30, **arguments)

    def works(self, credential: str) -> bool:
        """Whether a token or a key is let in."""
        status = self.ask("GET", "/api/v1/auth/me", headers={"Authorization": f"Bearer {credential}"}).status_code
        assert status in (200, 401, 403), status
        return status != 401

    def until_refused(self, credential: str) -> bool:
        """Wait for the bound within which every worker has learned of a revocation; then it must be refused by all."""
        time.sleep(BOUND_S)
        return not any(self.works(credential) for _ in range(12))

    def eventually(self, holds: Callable[[], bool]) -> None:
        """Within the same bound, for good."""
        time.sleep(BOUND_S)
        assert all(holds() for _ in range(6))

    def within(self, seconds: float, holds: Callable[[], bool]) -> None:
        """Wait until it holds, no longer than that."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.05)

    def caller_of(self, seen: dict[str, Any], service: str) -> Any:
        return verify_internal_token(seen["headers"]["x-ots-internal"], service, {"gateway": SecretStr(KEYS[service])})

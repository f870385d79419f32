"""A gateway under gunicorn with gevent workers, as in production, in front of a service that tells what it was sent."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr

from ots_common.database import Database
from ots_common.tokens import verify_internal_token
from ots_gateway.access import Role
from ots_gateway.user_tokens import TokenAuthority, User

KEYS = {name: secrets.token_urlsafe(32) for name in ("cache", "data-ingestion", "analytics")}
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


@dataclass
class Gateway:
    """The running gateway, and keys to it."""

    url: str
    pid: int
    database: Database
    upstream: ThreadingHTTPServer
    authority: TokenAuthority = field(default_factory=lambda: TokenAuthority(SEED, 600))

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def token(self, role: Role | None) -> str | None:
        return None if role is None else self.authority.sign(User(str(uuid.uuid4()), "somebody", role))

    def ask(self, method: str, path: str, role: Role | None = None, **arguments: Any) -> requests.Response:
        headers = {**arguments.pop("headers", {})}
        if token := self.token(role):
            headers["Authorization"] = f"Bearer {token}"
        return requests.request(method, self.url + path, headers=headers, timeout=30, **arguments)

    def caller_of(self, seen: dict[str, Any], service: str) -> Any:
        return verify_internal_token(seen["headers"]["x-ots-internal"], service, {"gateway": SecretStr(KEYS[service])})

"""What the gateway's benchmark runs: a service behind, the gateways in front of it, and wrk; all on this machine."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import provisioned
from ots_common.database import Database
from ots_gateway.accounts import ensure_admin
from ots_native.postgres import PostgresServer
from ots_native.redis import RedisServer
from ots_native.settings import Ports

HERE = Path(__file__).resolve().parent
WORKERS = 2
SMALL, LARGE = "/api/v1/data/bars/SMALL", "/api/v1/data/bars/LARGE"
ADMIN_PASSWORD = secrets.token_urlsafe(16)
PEERS_KEY = Ed25519PrivateKey.generate()
SEED = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
INTERNAL = secrets.token_urlsafe(32)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One server under measurement, and the processes that are it."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pids(self) -> list[int]:
        """Of the process and its children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu_s(self) -> float:
        """CPU time used so far, by all of them."""
        used = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            used += int(fields[11]) + int(fields[12])
        return used / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Rig:
    """All that runs."""

    folder: Path
    redis: RedisServer
    accounts_url: str
    servers: list[Server] = field(default_factory=list)
    upstream: Server | None = None

    def start(self, name: str, port: int, command: list[str], environment: dict[str, str]) -> Server:
        """Start a server and wait until it answers."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=output, stdout=output)
        server = Server(name, port, process, log)
        self.servers.append(server)
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(server.url + SMALL, timeout=2)
                return server
            except requests.RequestException:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} does not answer: {log.read_text()[-2000:]}") from None
                time.sleep(0.1)

    def nginx(self, name: str, body: str) -> Server:
        """An nginx with two workers and the server block ``body``."""
        port = free_port()
        folder = self.folder / name
        folder.mkdir()
        configuration = folder / "nginx.conf"
        configuration.write_text(
            f"worker_processes {WORKERS}; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; keepalive_timeout 75s; keepalive_requests 100000000; default_type text/plain;\n"
            f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;\n"
            f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n" + body.replace("PORT", str(port)) + "}\n"
        )
        return self.start(name, port, [nginx_path(), "-p", str(folder), "-c", str(configuration)], {})

    def ours(self, name: str = "ours", **environment: str) -> Server:
        """Our gateway, as in production."""
        port = free_port()
        database = Database(self.accounts_url, application="bench", size=1)
        ensure_admin(database, ADMIN_PASSWORD, reset_password=True)
        database.close()
        services = ("cache", "data-ingestion", "analytics")
        server = self.start(
            name,
            port,
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--config",
                "python:ots_gateway.gunicorn_conf",
                "ots_gateway.app:create_app()",
            ],
            {
                "BIND": f"127.0.0.1:{port}",
                "WORKERS": str(WORKERS),
                "DATABASE_URL": self.accounts_url,
                "REDIS_URL": self.redis.url,
                "SIGNING_KEYS": json.dumps(dict.fromkeys(services, INTERNAL)),
                "UPSTREAMS": json.dumps(dict.fromkeys(services, self.upstream.url)) if self.upstream else "{}",
                "JWT_SIGNING_KEY": SEED,
                "METRICS_TOKEN": secrets.token_urlsafe(32),
                "PROMETHEUS_MULTIPROC_DIR": str(self.folder / f"{name}-metrics"),
                "RATE_LIMITS": json.dumps({"read": "60000000/60/1000000"}),
                **environment,
            },
        )
        login = {"username": "admin", "password": ADMIN_PASSWORD, "role": "viewer"}
        server.token = requests.post(f"{server.url}/api/v1/auth/login", json=login, timeout=10).json()["access_token"]
        return server

    def peer(self, name: str, *arguments: str) -> Server:
        """One of the gateways in ``gateway_peers``."""
        port = free_port()
        metrics = self.folder / f"{name}-metrics"
        metrics.mkdir()
        server = self.start(
            name,
            port,
            [sys.executable, "-m", "gunicorn", "--chdir", str(HERE / "gateway_peers"), "-b", f"127.0.0.1:{port}",
             "-w", str(WORKERS), "--no-control-socket", *arguments, f"{name}:app"],
            {
                "PEER_UPSTREAM": self.upstream.url if self.upstream else "",
                "PEER_REDIS": self.redis.url,
                "PEER_PUBLIC_KEY": PEERS_KEY.public_key().public_bytes_raw().hex(),
                "PEER_INTERNAL_KEY": INTERNAL,
                "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            },
        )  # fmt: skip
        now = int(time.time())
        claims = {"iss": "ai-ots", "aud": "ai-ots", "sub": "u", "name": "somebody", "iat": now, "exp": now + 7200}
        server.token = jwt.encode(claims, PEERS_KEY, algorithm="EdDSA")
        return server


def nginx_path() -> str:
    """Where Debian puts it; a package that is missing is said, not worked around."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not found:
        raise SystemExit("install the Debian packages nginx-light and wrk first")
    return found


@contextmanager
def running() -> Iterator[Rig]:
    """The service behind, PostgreSQL and Redis."""
    # in memory where there is some: a disk that is busy would stall whoever writes metrics and logs
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=memory) as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = PostgresServer(folder / "postgres", Ports.free().postgres)
        postgres.start()
        redis = RedisServer(folder / "redis", Ports.free().redis, "bench-password")
        redis.start()
        try:
            with provisioned(postgres) as (_, accounts):
                rig = Rig(folder, redis, postgres.url("ots_accounts", "accounts-password", accounts))
                try:
                    rig.upstream = rig.nginx("upstream", _service(folder))
                    rig.servers.remove(rig.upstream)
                    yield rig
                finally:
                    for server in [*rig.servers, *([rig.upstream] if rig.upstream else [])]:
                        server.stop()
        finally:
            redis.remove()
            postgres.remove()


def _service(folder: Path) -> str:
    files = folder / "files" / "api" / "v1" / "data" / "bars"
    files.mkdir(parents=True)
    (files / "SMALL").write_bytes(json.dumps({"rows": "x" * 1010}).encode())
    (files / "LARGE").write_bytes(json.dumps({"rows": "x" * 102_388}).encode())
    return (
        f"open_file_cache max=100; sendfile on; tcp_nopush on; root {folder}/files;\n"
        "server { listen 127.0.0.1:PORT; location / { } }\n"
    )


def plain_proxy(upstream: str) -> str:
    """nginx as nothing but a proxy with kept connections."""
    return (
        f"upstream service {{ server {upstream.removeprefix('http://')}; keepalive 128;"
        " keepalive_requests 100000000; }\n"
        "server { listen 127.0.0.1:PORT; location / { proxy_pass http://service; proxy_http_version 1.1;\n"
        'proxy_set_header Connection ""; proxy_buffers 16 16k; } }\n'
    )


@dataclass(frozen=True)
class Load:
    """What wrk measured."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def wrk(server: Server, path: str, connections: int, seconds: float, headers: Mapping[str, str] | None = None) -> Load:
    """Load from one thread of wrk. Every answer must be a 200, or a 304 where ``headers`` ask for that."""
    more = [part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")]
    told = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-H",
         f"Authorization: Bearer {server.token}", *more,
         server.url + path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    if rate is None:
        raise RuntimeError(told)
    return Load(
        per_second=float(rate[1]),
        p50_ms=_ms(re.search(r"50%\s+([\d.]+)(us|ms|s)", told)),
        p99_ms=_ms(re.search(r"99%\s+([\d.]+)(us|ms|s)", told)),
        errors=(int(errors[1]) if errors else 0) + (sum(map(int, broken.groups())) if broken else 0),
    )


def paced(server: Server, path: str, per_second: float, seconds: float) -> list[float]:
    """Milliseconds that each of a steady row of requests took, from when it was due; on four connections in turn.

    From when it was due, not from when it was sent: a stall counts for all that it kept waiting. Every answer must be a
    200.
    """
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
    took = []
    try:
        began = time.perf_counter()
        for turn in range(int(per_second * seconds)):
            due = began + turn / per_second
            time.sleep(max(0.0, due - time.perf_counter()))
            connection = connections[turn % len(connections)]
            connection.sendall(head)
            answer = connection.recv(65536)
            while b"\r\n\r\n" not in answer or len(answer) < _length(answer):
                more = connection.recv(65536)
                if not more:
                    raise RuntimeError("the gateway closed a connection")
                answer += more
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer[:200].decode("latin-1"))
            took.append((time.perf_counter() - due) * 1000)
    finally:
        for connection in connections:
            connection.close()
    return took


def _length(answer: bytes) -> int:
    head, _, _ = answer.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head.lower())
    return len(head) + 4 + (int(found[1]) if found else 0)


def _ms(found: re.Match[str] | None) -> float:
    if found is None:
        return float("nan")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]

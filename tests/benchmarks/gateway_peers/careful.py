"""A Flask gateway as a careful engineer writes it with the usual libraries: threads, kept connections, a cache of
verified tokens, one atomic script for the limit, metrics and an access log in JSON.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
import uuid

import jwt
import redis
import urllib3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flask import Flask, Response, g, request
from prometheus_client import Counter, Histogram

UPSTREAM = os.environ["PEER_UPSTREAM"]
KEY = Ed25519PublicKey.from_public_bytes(bytes.fromhex(os.environ["PEER_PUBLIC_KEY"]))
INTERNAL = os.environ["PEER_INTERNAL_KEY"]
LIMIT = 1_000_000
REQUESTS = Counter("careful_requests_total", "Requests", ["route", "status"])
SECONDS = Histogram("careful_seconds", "Time to answer", ["route"])
SCRIPT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], 60) end
return count
"""
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "authorization"}

app = Flask(__name__)
pool = urllib3.PoolManager(maxsize=64, retries=False)
limits = redis.Redis.from_url(os.environ["PEER_REDIS"])
count = limits.register_script(SCRIPT)
verified: dict[bytes, tuple[dict, float]] = {}
access = logging.getLogger("access")
access.addHandler(logging.StreamHandler(sys.stderr))
access.setLevel(logging.INFO)
access.propagate = False


def user_of(header: str) -> dict | None:
    token = header.removeprefix("Bearer ")
    digest = hashlib.sha256(token.encode()).digest()
    claims, until = verified.get(digest, (None, 0.0))
    if claims is None or time.time() > until:
        try:
            claims = jwt.decode(token, KEY, algorithms=["EdDSA"], audience="ai-ots", issuer="ai-ots")
        except jwt.PyJWTError:
            return None
        verified[digest] = claims, min(claims["exp"], time.time() + 60)
    return claims


@app.before_request
def guard():
    g.started = time.perf_counter()
    g.request_id = request.headers.get("X-Request-ID") or uuid.uuid4().hex
    g.user = user_of(request.headers.get("Authorization", ""))
    if g.user is None:
        return Response('{"title":"Not authenticated"}', 401, content_type="application/problem+json")
    if count(keys=[f"limit:{g.user['sub']}"]) > LIMIT:
        return Response('{"title":"Too many"}', 429, content_type="application/problem+json")
    return None


@app.after_request
def finish(response):
    seconds = time.perf_counter() - g.started
    response.headers["X-Request-ID"] = g.request_id
    REQUESTS.labels("proxy", response.status_code).inc()
    SECONDS.labels("proxy").observe(seconds)
    access.info(
        json.dumps(
            {
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "ms": round(seconds * 1000, 2),
                "user": g.user and g.user["name"],
                "request_id": g.request_id,
            }
        )
    )
    return response


@app.route("/<path:path>", methods=["GET", "POST", "DELETE"])
def proxy(path):
    headers = {name: value for name, value in request.headers if name.lower() not in HOP}
    now = int(time.time())
    claims = {
        "iss": "gateway",
        "aud": "upstream",
        "sub": g.user["sub"],
        "rid": g.request_id,
        "iat": now,
        "exp": now + 30,
    }
    headers["X-Internal"] = jwt.encode(claims, INTERNAL, algorithm="HS256")
    headers["X-Request-ID"] = g.request_id
    target = f"{UPSTREAM}/{path}"
    if request.query_string:
        target += "?" + request.query_string.decode()
    answer = pool.request(
        request.method, target, body=request.get_data() or None, headers=headers, decode_content=False
    )
    kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP]
    return Response(answer.data, answer.status, kept)

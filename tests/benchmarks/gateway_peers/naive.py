"""A Flask gateway as it is written in an afternoon: a token verified each time, two round trips to count, a connection
for each request.
"""

from __future__ import annotations

import os

import jwt
import redis
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flask import Flask, Response, jsonify, request

UPSTREAM = os.environ["PEER_UPSTREAM"]
KEY = (
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(os.environ["PEER_PUBLIC_KEY"]))
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
LIMIT = 1_000_000

app = Flask(__name__)
limits = redis.Redis.from_url(os.environ["PEER_REDIS"])


@app.route("/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])
def proxy(path):
    token = request.headers.get("Authorization", "").replace("Bearer ", "")
    try:
        user = jwt.decode(token, KEY, algorithms=["EdDSA"], audience="ai-ots")
    except jwt.PyJWTError:
        return jsonify(error="unauthorized"), 401
    key = f"rate:{user['sub']}"
    used = limits.incr(key)
    limits.expire(key, 60)
    if used > LIMIT:
        return jsonify(error="too many requests"), 429
    headers = {name: value for name, value in request.headers if name != "Host"}
    answer = requests.request(
        request.method, f"{UPSTREAM}/{path}", params=request.args, data=request.get_data(), headers=headers
    )
    kept = [
        (name, value)
        for name, value in answer.headers.items()
        if name.lower() not in ("connection", "transfer-encoding")
    ]
    return Response(answer.content, answer.status_code, kept)

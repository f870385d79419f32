"""Entries that users keep for themselves: a namespace a user, answered as ``source: user``, never mistaken for ours."""

from __future__ import annotations

import time
from typing import Annotated, Any

import redis
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, StringConstraints

from ots_cache.settings import CacheSettings
from ots_common.cache_keys import cache_key
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.service import caller
from ots_common.times import rfc3339

_TAG = Tag(name="analytics entries", description="JSON that a user keeps for a while")

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]


class EntryBody(RequestModel):
    """An entry. ``data``: any JSON; ``ttl``: seconds it lives."""

    key: Key
    data: Any
    ttl: int = Field(300, ge=1, description="Seconds.")


class KeyPath(RequestModel):
    """An entry's key."""

    key: Key


class EntryModel(BaseModel):
    """An entry as kept. ``source`` is always `user`."""

    key: str
    data: Any
    source: str
    stored_at: str
    expires_at: str


def blueprint(settings: CacheSettings, client: redis.Redis) -> APIBlueprint:
    """The routes of users' entries."""
    api = APIBlueprint("entries", __name__, url_prefix="/api/v1/cache", abp_tags=[_TAG])

    def key_of(name: str) -> str:
        return cache_key(settings.market_source, "user", caller().user, name)

    @api.post(
        "/analytics",
        summary="Keep an entry of your own",
        responses={201: EntryModel, 413: ProblemModel, 422: ProblemModel, 503: ProblemModel},
    )
    def keep(body: EntryBody) -> Response:
        if body.ttl > settings.max_ttl_s:
            raise invalid("#/body/ttl", f"must be at most {settings.max_ttl_s} seconds")
        now = time.time_ns()
        entry = {
            "key": body.key,
            "data": body.data,
            "source": "user",
            "stored_at": rfc3339(now // 1_000_000 * 1_000_000),
            "expires_at": rfc3339((now // 1_000_000 + body.ttl * 1000) * 1_000_000),
        }
        try:
            text = json.dumps(entry)
        except ValueError as error:
            raise invalid("#/body/data", "has a number that JSON does not know (NaN or infinity)") from error
        if len(text.encode()) > settings.max_entry_bytes:
            raise Problem(413, "too-large", f"an entry may have {settings.max_entry_bytes} bytes as JSON at most")
        client.set(key_of(body.key), text, ex=body.ttl)
        return Response(
            text, 201, mimetype="application/json", headers={"Location": f"/api/v1/cache/analytics/{body.key}"}
        )

    @api.get(
        "/analytics/<key>",
        summary="An entry of your own",
        responses={200: EntryModel, 404: ProblemModel, 503: ProblemModel},
    )
    def read(path: KeyPath) -> Response:
        text = client.get(key_of(path.key))
        if text is None:
            raise _gone(path.key)
        return Response(text, mimetype="application/json")

    @api.delete(
        "/analytics/<key>",
        summary="Forget an entry of your own",
        responses={204: None, 404: ProblemModel, 503: ProblemModel},
    )
    def forget(path: KeyPath) -> Response:
        if not client.delete(key_of(path.key)):
            raise _gone(path.key)
        return Response(status=204)

    return api


def _gone(key: str) -> Problem:
    return Problem(404, "no-entry", f"you keep no entry {key}, or it has expired")

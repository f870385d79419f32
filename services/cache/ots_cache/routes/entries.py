"""Entries that users keep for themselves: a namespace a user, answered as ``source: user``, never mistaken for ours."""

from __future__ import annotations

import time
from typing import Annotated, Any

from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ots_cache.metrics import user_entry
from ots_cache.own_entries import OwnEntries
from ots_cache.settings import CacheSettings
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem, invalid
from ots_common.schemas import PageQuery, ProblemModel, RequestModel, TableModel
from ots_common.service import caller
from ots_common.tables import table_response
from ots_common.times import rfc3339

_TAG = Tag(name="analytics entries", description="JSON that a user keeps for a while")

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]


class EntryBody(RequestModel):
    """An entry. ``data``: any JSON; ``ttl``: seconds it lives."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"key": "my-levels", "data": {"AAPL": [180, 195]}, "ttl": 600}]}
    )

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


class ListedEntryModel(BaseModel):
    """An entry of your own, without its data."""

    key: str
    bytes: int = Field(description="of the entry as JSON")
    expires_at: str
    source: str


class EntryListModel(TableModel):
    """A page of your own entries, those first that end first."""

    entries: list[ListedEntryModel]
    next: str | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "entries": [
                        {"key": "watchlist", "bytes": 136, "expires_at": "2026-12-01T15:25:44.255Z", "source": "user"}
                    ],
                    "next": None,
                }
            ]
        }
    )


def blueprint(settings: CacheSettings, entries: OwnEntries) -> APIBlueprint:
    """The routes of users' entries."""
    api = APIBlueprint("entries", __name__, url_prefix="/api/v1/cache", abp_tags=[_TAG])

    @api.get(
        "/analytics",
        summary="Your own entries",
        responses={200: EntryListModel, 406: ProblemModel, 422: ProblemModel, 503: ProblemModel},
    )
    @user_entry("list")
    def list_own(query: PageQuery) -> Response:
        position = decode_cursor(query.cursor, (int, str)) if query.cursor else None
        after = (position[0], position[1]) if position else None
        page, following = entries.page(caller().user, after=after, limit=query.limit)
        rows = [
            {
                "key": one.name,
                "bytes": one.bytes,
                "expires_at": rfc3339(one.expires_ms * 1_000_000),
                "source": "user",
            }
            for one in page
        ]
        cursor = encode_cursor(list(following)) if following else None
        return table_response("entries", rows, ("key", "bytes", "expires_at", "source"), {}, cursor)

    @api.post(
        "/analytics",
        summary="Keep an entry of your own",
        responses={201: EntryModel, 413: ProblemModel, 422: ProblemModel, 503: ProblemModel},
    )
    @user_entry("keep")
    def keep(body: EntryBody) -> Response:
        if body.ttl > settings.max_ttl_s:
            raise invalid("#/body/ttl", f"must be at most {settings.max_ttl_s} seconds")
        now_ms = time.time_ns() // 1_000_000
        expires_ms = now_ms + body.ttl * 1000
        entry = {
            "key": body.key,
            "data": body.data,
            "source": "user",
            "stored_at": rfc3339(now_ms * 1_000_000),
            "expires_at": rfc3339(expires_ms * 1_000_000),
        }
        try:
            text = json.dumps(entry)
        except ValueError as error:
            raise invalid("#/body/data", "has a number that JSON does not know (NaN or infinity)") from error
        if len(text.encode()) > settings.max_entry_bytes:
            raise Problem(413, "too-large", f"an entry may have {settings.max_entry_bytes} bytes as JSON at most")
        entries.put(caller().user, body.key, text, ttl_s=body.ttl, expires_ms=expires_ms)
        return Response(
            text, 201, mimetype="application/json", headers={"Location": f"/api/v1/cache/analytics/{body.key}"}
        )

    @api.get(
        "/analytics/<key>",
        summary="An entry of your own",
        responses={200: EntryModel, 404: ProblemModel, 503: ProblemModel},
    )
    @user_entry("read")
    def read(path: KeyPath) -> Response:
        text = entries.get(caller().user, path.key)
        if text is None:
            raise _gone(path.key)
        return Response(text, mimetype="application/json")

    @api.delete(
        "/analytics/<key>",
        summary="Forget an entry of your own",
        responses={204: None, 404: ProblemModel, 503: ProblemModel},
    )
    @user_entry("delete")
    def forget(path: KeyPath) -> Response:
        if not entries.delete(caller().user, path.key):
            raise _gone(path.key)
        return Response(status=204)

    return api


def _gone(key: str) -> Problem:
    return Problem(404, "no-entry", f"you keep no entry {key}, or it has expired")

"""How well the cache does, and making it forget."""

from __future__ import annotations

import time
from typing import Any

import redis
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ots_cache.own_entries import OwnEntries
from ots_cache.settings import CacheSettings
from ots_common.schemas import PlainText, ProblemModel, RequestModel
from ots_common.service import caller
from ots_common.shared_cache import SharedCache
from ots_common.times import rfc3339

_TAG = Tag(name="cache", description="Its statistics, and making it forget")
_MOST = 1000


class KindModel(BaseModel):
    """One kind of answers. ``hits`` and ``misses`` are counted over all services."""

    kind: str
    entries: int
    bytes: int
    hits: int
    misses: int
    hit_ratio: float | None = Field(description="null before the first lookup")


class RedisModel(BaseModel):
    """Redis itself, which holds more than this cache."""

    used_memory_bytes: int
    max_memory_bytes: int = Field(description="0: no limit")
    evicted_keys: int = Field(description="keys that it dropped for want of memory since it was started")
    policy: str | None


class StatsModel(BaseModel):
    """The cache as it stands. Of other users' entries nothing is said."""

    at: str
    source: str
    since: str | None = Field(description="from when on lookups are counted")
    entries: int
    bytes: int
    max_bytes: int
    evicted: int = Field(description="entries that made room for others")
    own_entries: int = Field(description="entries that you keep yourself")
    kinds: list[KindModel]
    redis: RedisModel

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "at": "2026-12-01T15:17:08.278Z",
                    "source": "simulated",
                    "since": "2026-12-01T15:15:43.309Z",
                    "entries": 1,
                    "bytes": 28304,
                    "max_bytes": 100663296,
                    "evicted": 0,
                    "own_entries": 1,
                    "kinds": [
                        {
                            "kind": "cache-option-chain",
                            "entries": 1,
                            "bytes": 28304,
                            "hits": 78,
                            "misses": 2,
                            "hit_ratio": 0.975,
                        }
                    ],
                    "redis": {
                        "used_memory_bytes": 1124408,
                        "max_memory_bytes": 268435456,
                        "evicted_keys": 0,
                        "policy": "volatile-lru",
                    },
                }
            ]
        }
    )


class InvalidateBody(RequestModel):
    """What to forget: entries with any of ``tags``, and those whose name begins with ``prefix``."""

    tags: list[PlainText] = Field(
        default_factory=list, max_length=20, description="Symbols that answers are about, such as GOOG."
    )
    prefix: str = Field(
        "",
        max_length=200,
        pattern=r"^([a-z][a-z0-9-]{0,31}(:[A-Za-z0-9._~%:-]*)?)?$",
        description="A kind, as GET /stats names it, or a kind and the beginning of what follows: `indicators:`.",
    )
    limit: int = Field(_MOST, ge=1, le=_MOST, description="Entries at most.")

    model_config = RequestModel.model_config | {
        "json_schema_extra": {"examples": [{"tags": ["AAPL"]}, {"prefix": "indicators:"}]}
    }

    @model_validator(mode="after")
    def _something(self) -> InvalidateBody:
        if not self.prefix and not any(self.tags):
            raise ValueError("name tags or a prefix")
        return self


class InvalidatedModel(BaseModel):
    """How many entries are gone; ``more``: there are more of them, ask again."""

    removed: int
    more: bool
    source: str

    model_config = ConfigDict(json_schema_extra={"examples": [{"removed": 3, "more": False, "source": "simulated"}]})


def blueprint(settings: CacheSettings, client: redis.Redis, cache: SharedCache, entries: OwnEntries) -> APIBlueprint:
    """The routes about the cache itself."""
    api = APIBlueprint("statistics", __name__, url_prefix="/api/v1/cache", abp_tags=[_TAG])

    @api.get("/stats", summary="Entries, hits and misses by kind", responses={200: StatsModel, 503: ProblemModel})
    def stats() -> Response:
        told = cache.stats()
        info: dict[str, Any] = client.info()
        since = told["since_ms"]
        kinds = [_kind(name, numbers) for name, numbers in sorted(told["kinds"].items())]
        body = {
            "at": rfc3339(time.time_ns() // 1_000_000 * 1_000_000),
            "source": settings.market_source,
            "since": None if since is None else rfc3339(since * 1_000_000),
            "entries": sum(kind["entries"] for kind in kinds),
            "bytes": told["bytes"],
            "max_bytes": told["limits"]["bytes"],
            "evicted": told["evicted"],
            "own_entries": entries.number(caller().user),
            "kinds": kinds,
            "redis": {
                "used_memory_bytes": info["used_memory"],
                "max_memory_bytes": info["maxmemory"],
                "evicted_keys": info["evicted_keys"],
                "policy": info.get("maxmemory_policy"),
            },
        }
        return Response(json.dumps(body), mimetype="application/json", headers={"Cache-Control": "no-store"})

    @api.post(
        "/invalidate",
        summary="Forget derived answers",
        description="They are made again when they are asked for. Never touches entries of users, latest prices, or"
        " anything else in Redis.",
        responses={200: InvalidatedModel, 422: ProblemModel, 503: ProblemModel},
    )
    def invalidate(body: InvalidateBody) -> Response:
        tags = [tag.upper() for tag in body.tags if tag]
        done = cache.invalidate(tags=tags, prefix=body.prefix, most=body.limit)
        answer = {"removed": done.removed, "more": done.more, "source": settings.market_source}
        return Response(json.dumps(answer), mimetype="application/json")

    return api


def _kind(name: str, numbers: dict[str, int]) -> dict[str, Any]:
    hits, misses = numbers.get("hits", 0), numbers.get("misses", 0)
    return {
        "kind": name,
        "entries": numbers.get("entries", 0),
        "bytes": numbers.get("bytes", 0),
        "hits": hits,
        "misses": misses,
        "hit_ratio": round(hits / (hits + misses), 4) if hits + misses else None,
    }

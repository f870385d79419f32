"""Whether the market is open, as ingestion answers it."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from ots_cache.other_services import OtherService
from ots_cache.relayed import relay
from ots_cache.settings import CacheSettings
from ots_common.schemas import ProblemModel
from ots_common.shared_cache import SharedCache

_TAG = Tag(name="market status", description="As ingestion answers it, for a second")


class MarketStatusModel(BaseModel):
    """As ``/api/v1/data/market-status`` answers: the market at ``at``."""

    source: str
    calendar: str
    at: str = Field(description="the moment that is answered for, a second ago at most")
    date: str
    open: bool
    phase: Literal["regular", "pre-market", "post-market", "closed"]
    why_closed: Literal["holiday", "weekend", "out of hours"] | None
    half_day: bool | None
    current: dict[str, Any] | None
    previous: dict[str, Any] | None
    next: dict[str, Any] | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "databento",
                    "calendar": "XNYS",
                    "at": "2024-03-04T15:00:00Z",
                    "date": "2024-03-04",
                    "open": True,
                    "phase": "regular",
                    "why_closed": None,
                    "half_day": False,
                    "current": {
                        "date": "2024-03-04",
                        "opens_at": "2024-03-04T14:30:00Z",
                        "closes_at": "2024-03-04T21:00:00Z",
                        "half_day": False,
                    },
                    "previous": {
                        "date": "2024-03-01",
                        "opens_at": "2024-03-01T14:30:00Z",
                        "closes_at": "2024-03-01T21:00:00Z",
                        "half_day": False,
                    },
                    "next": {
                        "date": "2024-03-05",
                        "opens_at": "2024-03-05T14:30:00Z",
                        "closes_at": "2024-03-05T21:00:00Z",
                        "half_day": False,
                    },
                }
            ]
        }
    )


def blueprint(settings: CacheSettings, cache: SharedCache, ingestion: OtherService) -> APIBlueprint:
    """The route of the market's status."""
    api = APIBlueprint("market_status", __name__, url_prefix="/api/v1/cache", abp_tags=[_TAG])

    @api.get(
        "/market-status",
        summary="Open or closed, now",
        responses={200: MarketStatusModel, 502: ProblemModel, 503: ProblemModel, 504: ProblemModel},
    )
    def market_status() -> Response:
        return relay(
            cache, "cache-market-status", [], ingestion, "/api/v1/data/market-status", ttl_s=settings.now_ttl_s
        )

    return api

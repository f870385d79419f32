"""What the chain implies: surface, skew, term structure, expected move, exposure, open interest."""

from __future__ import annotations

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from ots_analytics.desk import Desk
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database

_TAG = Tag(
    name="surfaces",
    description="What the chain implies: surface, skew, term structure, expected move, exposure, open interest",
)


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The routes of surfaces."""
    return APIBlueprint("surfaces", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

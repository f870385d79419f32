"""Unusual volume, realised against implied volatility, all underlyings at a glance, statistics over chosen symbols."""

from __future__ import annotations

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from ots_analytics.desk import Desk
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database

_TAG = Tag(
    name="activity",
    description="Unusual volume, realised against implied volatility, all underlyings at a glance, statistics over chosen symbols",
)


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The routes of activity."""
    return APIBlueprint("activity", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

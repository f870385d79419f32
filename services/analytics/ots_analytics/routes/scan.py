"""Contracts for which a move of the asked size is plausible, with what it costs."""

from __future__ import annotations

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from ots_analytics.desk import Desk
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database

_TAG = Tag(name="scan", description="Contracts for which a move of the asked size is plausible, with what it costs")


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The routes of scan."""
    return APIBlueprint("scan", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

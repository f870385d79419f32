"""Implied volatility and Greeks of one contract as they were stored."""

from __future__ import annotations

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from ots_analytics.desk import Desk
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database

_TAG = Tag(name="contract history", description="Implied volatility and Greeks of one contract as they were stored")


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The routes of contract history."""
    return APIBlueprint("contract_history", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

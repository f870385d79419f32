"""The settings of analytics."""

from __future__ import annotations

from pydantic import Field

from ots_common.settings import ServiceSettings


class AnalyticsSettings(ServiceSettings):
    """The environment of ``ots_analytics``; its database role may only read."""

    history_bars: int = Field(
        20_000, ge=1000, le=1_000_000, description="Bars an indicator is computed over, where so many are stored."
    )

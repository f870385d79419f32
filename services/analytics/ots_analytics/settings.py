"""The settings of analytics."""

from __future__ import annotations

from pydantic import Field

from ots_common.settings import ServiceSettings


class AnalyticsSettings(ServiceSettings):
    """The environment of ``ots_analytics``; its database role may only read, that of its snapshots also writes them."""

    history_bars: int = Field(
        20_000, ge=1000, le=1_000_000, description="Bars an indicator is computed over, where so many are stored."
    )
    snapshot_interval_s: int = Field(
        60, ge=1, le=3600, description="How often the current session's implied volatility is stored."
    )
    snapshot_settle_s: float = Field(
        10.0, ge=0, le=600, description="How long after its moment a snapshot is taken: quotes take time to be stored."
    )
    snapshot_quote_age_s: int = Field(
        900, ge=1, le=86_400, description="A quote, or a price of the underlying, older than this counts as stale."
    )
    snapshot_review_s: float = Field(
        3600.0, gt=0, description="How often the newest three closes are looked at again, whatever was stored since."
    )
    snapshots_metrics_port: int = Field(0, ge=0, le=65535, description="The snapshots' own /metrics; 0: none.")
    metrics_bind: str = Field("127.0.0.1", description="The address where the snapshots' /metrics listen.")
    chain_memory_contracts: int = Field(
        65_536, ge=1, description="Contracts of priced chains that a process keeps, about 0.7 KB each."
    )
    bars_memory: int = Field(
        1_000_000, ge=1, description="Intraday bars that a process keeps for the next question, about 75 bytes each."
    )
    answer_ttl_s: float = Field(
        3600.0, gt=0, description="How long an answer about a moment that is over is kept; it is true for as long."
    )

"""The settings of signals."""

from __future__ import annotations

from pydantic import Field

from ots_common.settings import ServiceName, ServiceSettings
from ots_market.underlyings import UNDERLYINGS


class SignalsSettings(ServiceSettings):
    """The environment of ``ots_signals``; its database role reads, and adds to the ledger."""

    upstreams: dict[ServiceName, str] = Field(
        default_factory=dict, description="service -> base URL: analytics, whom it asks for chains"
    )
    code_version: str = Field(
        "", max_length=80, description="The commit that an image was built of; without it that of the checkout."
    )
    upstream_timeout_s: float = Field(20.0, gt=0, description="How long it waits for analytics.")
    underlyings: list[str] = Field(
        default_factory=lambda: list(UNDERLYINGS), min_length=1, description="What is decided about, as JSON."
    )
    deciders: int = Field(3, ge=1, le=32, description="Underlyings that one worker decides about at the same time.")
    wake_s: float = Field(
        1.0, gt=0, le=60, description="How long the worker waits for news by Redis before it looks for itself."
    )
    settle_s: float = Field(
        5.0, ge=0, le=600, description="How long after its minute a bar counts as closed though nothing newer has come."
    )
    late_s: float = Field(
        30.0, gt=0, description="What is decided longer after its event than this is a replay, and says so."
    )
    decide_tries: int = Field(
        12, ge=1, le=1000, description="After so many failures in vain an event becomes an abstention that says why."
    )
    retry_s: float = Field(
        30.0, gt=0, le=3600, description="The longest wait before what failed is tried again; the first is 0.2 s."
    )
    first_sessions: int = Field(
        0, ge=0, le=30, description="Sessions, the current one included, that a new worker begins with; 0: from now on."
    )
    resolve_s: float = Field(5.0, gt=0, le=600, description="How often outcomes are looked for.")
    revise_sessions: int = Field(
        5, ge=0, le=60, description="Newest sessions whose outcomes are looked at again when their data changed."
    )
    revise_s: float = Field(60.0, gt=0, description="How often that is asked.")
    ledger_verify_every_s: float = Field(3600.0, gt=0, description="How often the worker verifies the whole ledger.")
    signals_metrics_port: int = Field(0, ge=0, le=65535, description="The worker's own /metrics; 0: none.")
    metrics_bind: str = Field("127.0.0.1", description="The address where the worker's /metrics listen.")
    streams: int = Field(16, ge=0, le=64, description="Clients that follow the stream at once, a process.")
    stream_poll_s: float = Field(0.5, gt=0, le=10, description="How often a stream looks for new rows.")
    stream_heartbeat_s: float = Field(15.0, gt=0, le=50, description="A stream says something at least so often.")
    stream_lasts_s: float = Field(1800.0, gt=0, description="After so long a stream ends; its client comes again.")
    stream_behind: int = Field(
        10_000, ge=1, description="Whoever is more rows behind is told of a gap, and goes on from there."
    )
    backtests_queued: int = Field(20, ge=1, le=1000, description="Backtests that wait at most.")
    backtest_sessions: int = Field(300, ge=1, le=5000, description="Sessions of one backtest at most.")
    backtest_timeout_s: float = Field(3600.0, gt=0, description="After so long a backtest is given up.")
    workers: int = Field(2, ge=1, description="Processes of the web service: what gunicorn starts.")

"""The settings of the simulator: where it listens, what market it plays, how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from ots_common.settings import LogSettings

# US dollars per 2^30 bytes; invented, but none is free, so that an estimate is never 0 for something
_UNIT_PRICES = {
    "mbo": 0.5,
    "mbp-1": 0.6,
    "mbp-10": 0.3,
    "cmbp-1": 0.6,
    "tbbo": 2.0,
    "tcbbo": 2.0,
    "trades": 2.0,
    "bbo-1s": 1.0,
    "bbo-1m": 1.0,
    "cbbo-1s": 1.0,
    "cbbo-1m": 1.0,
    "ohlcv-1s": 4.0,
    "ohlcv-1m": 8.0,
    "ohlcv-1h": 16.0,
    "ohlcv-1d": 32.0,
    "ohlcv-eod": 32.0,
    "definition": 1.0,
    "statistics": 1.0,
    "status": 1.0,
    "imbalance": 1.0,
}


class SimulatorSettings(LogSettings):
    """The environment of ``ots_simulator``."""

    ots_environment: Literal["development", "production"] = "development"
    market_calendar: Literal["xnys", "around-the-clock"] = "around-the-clock"

    simulator_key: SecretStr = Field(
        min_length=32, max_length=32, description="The API key that clients must know; starts with db-."
    )
    simulator_seed: int = Field(1, description="The seeded market's seed; another seed is another market.")
    simulator_size: Literal["laptop", "full"] = Field("laptop", description="How much of the option chains exists.")
    simulator_speed: float = Field(
        1.0, gt=0, le=100_000, description="How fast the market's time runs. Other than 1: it leaves the wall's behind."
    )
    simulator_starts_at: str | None = Field(
        None, description="The market's time at the start, RFC 3339; unset: now, or a tape's own beginning."
    )
    simulator_tape: Path | None = Field(None, description="A folder of DBN files, played instead of the seeded market.")
    simulator_tape_shift: Literal["none", "minutes", "days"] = Field(
        "none", description="Move the tape in time so that it begins now, by whole minutes or whole days."
    )
    simulator_bind: str = "127.0.0.1"
    simulator_http_port: int = Field(8010, ge=0, le=65535, description="0: any free one; the ready line says which.")
    simulator_live_port: int = Field(13000, ge=0, le=65535, description="0: any free one; the ready line says which.")
    simulator_tls_dir: Path = Field(description="Its certificates: ca.pem, server.pem, server.key; made when absent.")

    simulator_replay_hours: float = Field(24.0, ge=0, description="How far back a live session may start.")
    simulator_historical_lag_s: float = Field(0.0, ge=0, description="How long after the event history has it.")
    simulator_max_sessions: int = Field(10, ge=1, description="Live sessions at once, a dataset.")
    simulator_tick_ms: int = Field(50, ge=1, description="How often a live session sends what has happened.")
    simulator_send_buffer_bytes: int = Field(2**20, ge=4096, description="What is held for a slow reader.")
    simulator_slow_reader_s: float = Field(10.0, gt=0, description="How far behind a live reader counts as slow.")
    simulator_denied_datasets: tuple[str, ...] = Field((), description="Datasets the key is not entitled to.")
    simulator_balance_usd: float | None = Field(None, description="A request that costs more gets 402; unset: none.")
    simulator_unit_prices: dict[str, float] = Field(
        default_factory=lambda: dict(_UNIT_PRICES), description="Schema -> US dollars per 2^30 bytes."
    )

    @model_validator(mode="after")
    def _development_only_behind_a_key(self) -> SimulatorSettings:
        if self.ots_environment == "production":
            raise ValueError("the market simulator is for development: it refuses OTS_ENVIRONMENT=production")
        if not self.simulator_key.get_secret_value().startswith("db-"):
            raise ValueError("SIMULATOR_KEY must start with db-")
        return self

"""Settings that every service has, read from the environment in one place.

A service subclasses :class:`ServiceSettings` and documents each field of its own; nothing else reads ``os.environ``.
"""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

InternalKey = Annotated[SecretStr, Field(min_length=32)]
ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$")]


class ServiceSettings(BaseSettings):
    """The environment of any service; see ``.env.example`` for where each value comes from."""

    # an empty variable, which Compose hands on for an unset one, is an unset one
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    ots_environment: Literal["development", "production"] = "development"
    ots_instance: str = Field("local", description="Names this installation; shown by /health.")
    market_source: Literal["databento", "simulated"] = "databento"
    market_calendar: Literal["xnys", "around-the-clock"] = Field(
        "xnys", description="When the market is open. It belongs to the source: real data keep `xnys`."
    )
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    database_url: SecretStr
    database_pool_size: int = Field(8, ge=1, le=100, description="Connections at most, a process.")
    database_wait_s: float = Field(5.0, gt=0, description="How long a request waits for a free connection.")
    accept_keys: dict[ServiceName, InternalKey] = Field(
        default_factory=dict, description="caller -> secret shared with it: who may call this service"
    )
    signing_keys: dict[ServiceName, InternalKey] = Field(
        default_factory=dict, description="audience -> secret shared with it: whom this service may call"
    )

"""Settings that every service has, read from the environment in one place.

A service subclasses :class:`ServiceSettings` and documents each field of its own; nothing else reads ``os.environ``.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

InternalKey = Annotated[SecretStr, Field(min_length=32)]
ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$")]


_STREAM = r"(application|access|audit|performance)=(off|DEBUG|INFO|WARNING|ERROR)"


class LogSettings(BaseSettings):
    """How a process logs; see docs/LOGGING.md."""

    # an empty variable, which Compose hands on for an unset one, is an unset one
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True)

    log_format: Literal["json", "console", "logfmt", "both"] = Field(
        "json", description="Of standard error; `both`: console there, and JSON lines into LOG_FILE."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_streams: str = Field(
        "",
        pattern=rf"^({_STREAM}(,{_STREAM})*)?$",
        description="Levels of single streams, such as `access=off,performance=ERROR`.",
    )
    log_file: str = Field("", description="JSON lines go there too; `{service}` in it is the service's name.")
    log_file_bytes: int = Field(20 * 2**20, ge=1024, description="The size at which that file is rotated.")
    log_file_backups: int = Field(3, ge=0, le=100, description="How many earlier ones are kept.")
    log_flood_lines: int = Field(50, ge=0, description="Lines of one event a second, before it is a flood; 0: any.")
    log_flood_keep_one_in: int = Field(100, ge=1, description="Of a flood one line in so many is written.")
    slow_request_ms: float = Field(1000.0, gt=0, description="A request that takes longer is told with its stages.")
    slow_query_ms: float = Field(500.0, gt=0, description="A query that takes longer is told.")

    @model_validator(mode="after")
    def _both_are_there(self) -> Self:
        if self.log_format == "both" and not self.log_file:
            raise ValueError("LOG_FORMAT=both needs LOG_FILE")
        return self


class ServiceSettings(LogSettings):
    """The environment of any service; see ``.env.example`` for where each value comes from."""

    ots_environment: Literal["development", "production"] = "development"
    ots_instance: str = Field("local", description="Names this installation; shown by /health.")
    market_source: Literal["databento", "simulated"] = "databento"
    market_calendar: Literal["xnys", "around-the-clock"] = Field(
        "xnys", description="When the market is open. It belongs to the source: real data keep `xnys`."
    )
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

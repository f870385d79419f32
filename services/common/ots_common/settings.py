"""Settings that every service has, read from the environment in one place.

A service subclasses :class:`ServiceSettings` and documents each field of its own; nothing else reads ``os.environ``.
"""

from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

InternalKey = Annotated[SecretStr, Field(min_length=32)]
ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$")]


def _named_by_variables(keys: Any) -> Any:
    """The name of a variable holds no hyphen: SIGNING_KEYS__DATA_INGESTION is the key for ``data-ingestion``."""
    return {name.replace("_", "-"): key for name, key in keys.items()} if isinstance(keys, dict) else keys


InternalKeys = Annotated[dict[ServiceName, InternalKey], BeforeValidator(_named_by_variables)]


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
    """The environment of any service; see ``.env.example`` for where each value comes from.

    Where secrets are handed on one by one and unchanged, as ECS does, none need be part of another value: keys are
    ``SIGNING_KEYS__<SERVICE>`` and ``ACCEPT_KEYS__<SERVICE>``, Redis' password is ``REDIS_PASSWORD``, and that of the
    database libpq's own ``PGPASSWORD``.
    """

    model_config = SettingsConfigDict(env_nested_delimiter="__")

    ots_environment: Literal["development", "production"] = "development"
    ots_instance: str = Field("local", description="Names this installation; shown by /health.")
    market_source: Literal["databento", "simulated"] = "databento"
    market_calendar: Literal["xnys", "around-the-clock"] = Field(
        "xnys", description="When the market is open. It belongs to the source: real data keep `xnys`."
    )
    redis_password: SecretStr | None = Field(None, description="Redis' password, where redis_url is without.")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    database_url: SecretStr
    database_pool_size: int = Field(8, ge=1, le=100, description="Connections at most, a process.")
    database_wait_s: float = Field(5.0, gt=0, description="How long a request waits for a free connection.")
    accept_keys: InternalKeys = Field(
        default_factory=dict, description="caller -> secret shared with it: who may call this service"
    )
    signing_keys: InternalKeys = Field(
        default_factory=dict, description="audience -> secret shared with it: whom this service may call"
    )

    @field_validator("redis_url")
    @classmethod
    def _with_its_password(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        password = info.data.get("redis_password")
        if password is None:
            return url
        parts = urlsplit(url.get_secret_value())
        location = f":{quote(password.get_secret_value(), safe='')}@{parts.netloc.rpartition('@')[2]}"
        return SecretStr(urlunsplit(parts._replace(netloc=location)))

"""The settings of the cache."""

from __future__ import annotations

from pydantic import Field

from ots_common.settings import ServiceName, ServiceSettings


class CacheSettings(ServiceSettings):
    """The environment of ``ots_cache``; its database role may only read."""

    max_entry_bytes: int = Field(256 * 1024, ge=1, description="The largest entry a user may keep, as JSON.")
    max_ttl_s: int = Field(24 * 3600, ge=1, description="The longest a user's entry may live.")
    upstreams: dict[ServiceName, str] = Field(
        default_factory=dict, description="service -> base URL: whom it asks for what it does not have"
    )
    upstream_timeout_s: float = Field(55.0, gt=0, description="How long it waits for a service that it asks.")
    chain_ttl_s: float = Field(3600.0, gt=0, description="How long a chain of a moment that is over is kept.")
    now_ttl_s: float = Field(
        1.0, gt=0, le=10, description="How long an answer about now (a chain, the market's status) is given again."
    )

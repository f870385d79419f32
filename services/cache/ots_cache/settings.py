"""The settings of the cache."""

from __future__ import annotations

from pydantic import Field

from ots_common.settings import ServiceSettings


class CacheSettings(ServiceSettings):
    """The environment of ``ots_cache``; its database role may only read."""

    max_entry_bytes: int = Field(256 * 1024, ge=1, description="The largest entry a user may keep, as JSON.")
    max_ttl_s: int = Field(24 * 3600, ge=1, description="The longest a user's entry may live.")

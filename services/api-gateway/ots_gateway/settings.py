"""The settings of the gateway."""

from __future__ import annotations

from pydantic import Field, SecretStr

from ots_common.settings import ServiceName, ServiceSettings


class GatewaySettings(ServiceSettings):
    """The environment of ``ots_gateway``; its database is that of users and audit, and no other."""

    upstreams: dict[ServiceName, str] = Field(description="service -> base URL, such as http://127.0.0.1:8001")
    jwt_signing_key: SecretStr = Field(description="Ed25519 seed: 32 random bytes, base64url")
    access_token_ttl_s: int = Field(3600, ge=60, le=86_400, description="How long a user's token lives.")
    metrics_token: SecretStr = Field(min_length=32, description="What Prometheus presents at /metrics.")
    upstream_connections: int = Field(64, ge=1, description="Connections kept to each service, a process.")
    connect_timeout_s: float = Field(2.0, gt=0, description="How long to wait for a service to take a connection.")
    health_timeout_s: float = Field(1.5, gt=0, description="How long /health waits for all services together.")

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
    upstream_connections: int = Field(64, ge=1, description="Connections to each service at most, a process.")
    upstream_wait_s: int = Field(2, ge=1, description="How long a request waits for a free one of them.")
    upstream_idle_s: float = Field(60.0, gt=0, description="How long one is kept unused; services close after 75 s.")
    connect_timeout_s: float = Field(2.0, gt=0, description="How long to wait for a service to take a connection.")
    send_timeout_s: float = Field(60.0, gt=0, description="How long a service may pause while it is sent a body.")
    health_timeout_s: float = Field(1.5, gt=0, description="How long /health waits for all services together.")

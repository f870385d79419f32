"""The settings of the gateway."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, IPvAnyNetwork, SecretStr, StringConstraints

from ots_common.settings import ServiceName, ServiceSettings

EXTENSION = "ots.settings"  # where the app keeps them for its server
RateLimit = Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,8}/[1-9]\d{0,5}/[1-9]\d{0,8}$")]


class GatewaySettings(ServiceSettings):
    """The environment of ``ots_gateway``; its database is that of users and audit, and no other."""

    upstreams: dict[ServiceName, str] = Field(
        description="service -> base URL, such as http://127.0.0.1:8001; several of one service with commas between"
    )
    jwt_signing_key: SecretStr = Field(description="Seals the keys that sign users' tokens: 32 random bytes, base64url")
    access_token_ttl_s: int = Field(3600, ge=60, le=86_400, description="How long a user's token lives.")
    refresh_token_ttl_s: int = Field(14 * 86_400, ge=60, description="How long a refresh token waits for its use.")
    session_ttl_s: int = Field(
        30 * 86_400, ge=60, description="How long a sign-in lasts, however often it is refreshed."
    )
    login_failures_per_account: int = Field(10, ge=1, description="Wrong passwords before an account gets slow.")
    login_failures_per_address: int = Field(50, ge=1, description="Wrong passwords before an address is refused.")
    passwords_at_once: int = Field(4, ge=1, description="Passwords checked at the same time, a process.")
    passwords_waiting: int = Field(32, ge=0, description="Sign-ins that wait for that, a process; the rest get 503.")
    metrics_token: SecretStr = Field(min_length=32, description="What Prometheus presents at /metrics.")
    workers: int = Field(2, ge=1, description="Processes of the gateway: what gunicorn starts.")

    database_lock_s: float = Field(
        10.0, ge=0, description="How long a query waits for a lock, then 503; 0: as long as that lasts."
    )

    # the services
    upstream_connections: int = Field(64, ge=1, description="Connections to each service at most, a process.")
    upstream_wait_s: float = Field(2, gt=0, description="How long a request waits for a free one of them.")
    upstream_idle_s: float = Field(60.0, gt=0, description="How long one is kept unused; services close after 75 s.")
    connect_timeout_s: float = Field(2.0, gt=0, description="How long to wait for a service to take a connection.")
    send_timeout_s: float = Field(60.0, gt=0, description="How long a service may pause while it is sent a body.")
    answer_idle_s: float = Field(60.0, gt=0, description="How long a service may pause within an answer's body.")
    transfer_timeout_s: float = Field(3600.0, gt=0, description="How long one body, either way, may take in all.")
    breaker_failures: int = Field(5, ge=1, description="Failures in a row after which a service is left alone.")
    breaker_open_s: float = Field(2.0, gt=0, description="For how long, before one request tries it again.")

    kept_answers_bytes: int = Field(
        32 * 2**20, ge=0, description="Answers kept in memory and given when their service confirms them, a process."
    )

    # the clients
    allowed_hosts: list[str] = Field(
        default_factory=list, description="Host names to answer to, without port; none: every well-formed one."
    )
    cors_origins: list[str] = Field(
        default_factory=list, description="Origins whose pages may call, such as https://app.example.com; no wildcard."
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        default_factory=list, description="Networks of the proxies in front, whose X-Forwarded-For is believed."
    )
    hsts_s: int = Field(0, ge=0, description="max-age of Strict-Transport-Security; 0 where TLS does not end in front.")
    keepalive_s: float = Field(75.0, gt=0, description="How long a connection may wait for its next request.")
    head_timeout_s: float = Field(10.0, gt=0, description="How long the head of a request may take to arrive.")
    body_idle_s: float = Field(20.0, gt=0, description="How long a client may pause within a body.")
    body_settle_s: float = Field(30.0, gt=0, description="How long a body may take in any case.")
    body_bytes_per_s: int = Field(4096, ge=1, description="The slowest a body may arrive after that.")
    write_idle_s: float = Field(30.0, gt=0, description="How long a client may take nothing of its answer.")
    connections: int = Field(2000, ge=1, description="Connections at most, a process; the idlest makes room.")
    connections_per_address: int = Field(500, ge=1, description="Of one client address at most, a process.")

    # the limits
    rate_limits: dict[str, RateLimit] = Field(
        default_factory=dict, description='bucket -> "quota/seconds/burst", such as {"read": "6000/60/600"}'
    )
    rate_limit_scale: float = Field(1.0, ge=0, description="Multiplies every rate limit; 0 turns them off.")
    redis_timeout_s: float = Field(
        0.25, gt=0, description="How long the limiter waits for Redis before it counts alone."
    )
    idempotency_ttl_s: int = Field(86_400, ge=60, description="How long the answer to an Idempotency-Key is kept.")
    idempotency_lease_s: int = Field(15, ge=2, description="After how long a key of a gateway that died is free again.")
    health_timeout_s: float = Field(1.5, gt=0, description="How long /health waits for all services together.")

"""Who asks from where: the address behind trusted proxies, the host that was meant, the page that asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from ots_common.problems import Problem
from ots_gateway.settings import GatewaySettings

_HOST = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_EXPOSED = (
    "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, Server-Timing, X-OTS-About, X-Request-ID,"
    " Idempotent-Replayed"
)
_ALLOWED_FIELDS = (
    "Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, X-API-Key, X-Request-ID, traceparent"
)


class Clients:
    """What the settings say of clients."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._proxies = tuple(ip_network(str(network)) for network in settings.trusted_proxies)
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._origins = frozenset(settings.cors_origins)
        self._is_trusted = lru_cache(maxsize=4096)(self._compare)
        self._is_host = lru_cache(maxsize=256)(self._match)

    def address(self, environ: dict[str, Any]) -> str:
        """The client's own address: of X-Forwarded-For the rightmost that is no trusted proxy, if one sent it.

        Whatever a client wrote into the field itself stands further left.
        """
        address: str = environ.get("REMOTE_ADDR") or "unknown"
        if not self._proxies or not self._is_trusted(address):
            return address
        for claimed in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            text = claimed.strip()
            try:
                address = str(ip_address(text))
            except ValueError:
                return address
            if not self._is_trusted(address):
                return address
        return address

    def check_host(self, environ: dict[str, Any]) -> None:
        """Raises a 400 problem for no host, one that is none, and one that is not ours."""
        host = environ.get("HTTP_HOST")
        if not host:
            raise Problem(400, "host", "the Host header is missing")
        if not self._is_host(host):
            raise Problem(400, "host", "the Host header names no host of this platform")

    def cors(self, environ: dict[str, Any]) -> list[tuple[str, str]]:
        """The CORS fields of an answer: for an origin of the allow-list, and that one only."""
        if not self._origins:
            return []
        origin = environ.get("HTTP_ORIGIN")
        if origin not in self._origins:
            return [("Vary", "Origin")]
        return [
            ("Access-Control-Allow-Origin", str(origin)),
            ("Access-Control-Expose-Headers", _EXPOSED),
            ("Vary", "Origin"),
        ]

    def preflight(self, environ: dict[str, Any], methods: Sequence[str]) -> list[tuple[str, str]] | None:
        """The fields that answer a preflight request; None when it is none, or not from an origin of ours."""
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        if environ.get("HTTP_ORIGIN") not in self._origins:
            return None
        return [
            ("Access-Control-Allow-Methods", ", ".join(methods)),
            ("Access-Control-Allow-Headers", _ALLOWED_FIELDS),
            ("Access-Control-Max-Age", "600"),
        ]

    def _match(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        return found is not None and (not self._hosts or found["name"].lower() in self._hosts)

    def _compare(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed.version == network.version and parsed in network for network in self._proxies)


def neighbourhood(address: str) -> str:
    """What a rate limit counts as one client: an IPv4 address, the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped) if mapped else str(ip_network((parsed, 64), strict=False).network_address)

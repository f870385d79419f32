"""Rate limits: GCRA, shared by all workers in Redis; a worker alone counts its share while Redis is away.

GCRA keeps one number per key, the theoretical arrival time (ITU-T I.371): a request of cost c moves it by c·T, where T
is the time per unit, and is admitted while it is not further ahead than the burst allows.

A worker takes from Redis a few units at once where plenty are left, so that most requests of a busy user cost no round
trip; what it took is spent already, so that no more than the limit is ever admitted. As little is left, it takes one by
one, and the last request that fits is admitted by whichever worker it reaches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from ots_common.cache_keys import cache_key
from ots_common.problems import Problem
from ots_gateway.metrics import LIMIT_DECISIONS, LIMITS_LOCAL, RATE_LIMITED
from ots_gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

# bucket -> units per seconds, and how many at once; a person never meets them, a loop that ran away does
DEFAULTS = {
    "open": "1200/60/300",
    "login": "60/60/20",
    "stranger": "600/60/100",
    "account": "600/60/120",
    "read": "12000/60/2000",
    "compute": "3000/60/600",
    "write": "1200/60/200",
    "control": "300/60/60",
}
PER_ADDRESS = frozenset({"open", "login", "stranger"})
_RETRY_REDIS_S = 1.0
_LEASE_S = 0.5
_LEASE_SHARE = 64
_LEASE_AT_MOST = 64
_REMEMBERED = 20_000

# KEYS[1]; ARGV: time per unit and burst, in µs; cost; what part of the rest to take at most (1/n); the most to take;
# µs that a worker which counted alone is ahead. Answers {admitted units, µs left of the burst, µs to wait}
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local unit, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now, now + tonumber(ARGV[6]))
local room = burst - (arrival - now)
if room < cost * unit then
  return {0, room, cost * unit - room}
end
local taken = math.min(math.floor(room / unit / tonumber(ARGV[4])), tonumber(ARGV[5]))
if taken < cost then taken = cost end
arrival = arrival + taken * unit
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1000)
return {taken, burst - (arrival - now), 0}
"""


@dataclass(frozen=True)
class Policy:
    """``quota`` units in ``window_s`` seconds, ``burst`` of them at once."""

    quota: int
    window_s: int
    burst: int

    @classmethod
    def parse(cls, text: str, scale: float = 1.0) -> Policy:
        """From ``quota/seconds/burst``, both amounts times ``scale`` and at least 1."""
        quota, window_s, burst = map(int, text.split("/"))
        return cls(max(1, round(quota * scale)), window_s, max(1, round(burst * scale)))

    @property
    def unit_us(self) -> float:
        """Microseconds per unit."""
        return self.window_s * 1e6 / self.quota


@dataclass(slots=True)
class _Account:
    """What this worker knows of one key. ``arrival_us``: its own count, in its own clock, while Redis is away."""

    leased: int = 0
    lease_ends: float = 0.0
    left: int = 0
    reset_s: int = 0
    arrival_us: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the headers say; ``retry_after_s`` 0 when admitted."""

    bucket: str
    left: int
    reset_s: int
    retry_after_s: int


class Limiter:
    """One for each worker. ``scale`` 0 turns every limit off."""

    def __init__(
        self,
        settings: GatewaySettings,
        client: redis.Redis | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        scale = settings.rate_limit_scale
        texts: Mapping[str, str] = {**DEFAULTS, **settings.rate_limits}
        unknown = set(settings.rate_limits) - set(DEFAULTS)
        if unknown:
            raise ValueError(f"RATE_LIMITS names {', '.join(sorted(unknown))}: no bucket")
        self.policies = {name: Policy.parse(text, scale) for name, text in texts.items()} if scale else {}
        self.policy_headers = {
            name: f'"{name}";q={policy.quota};w={policy.window_s}' for name, policy in self.policies.items()
        }
        self._allowed = {name: LIMIT_DECISIONS.labels(name, "allowed") for name in self.policies}
        self._refused = {
            name: (LIMIT_DECISIONS.labels(name, "refused"), RATE_LIMITED.labels(name)) for name in self.policies
        }
        self._workers = settings.workers
        self._source = settings.market_source
        self._clock = clock
        self._script = (client or _connect(settings)).register_script(_SCRIPT)
        self._alone_until = 0.0
        self._alone = False
        self._accounts: dict[tuple[str, str], _Account] = {}

    def spend(self, bucket: str, who: str, cost: int) -> Verdict | None:
        """Spend ``cost`` of ``bucket`` for ``who``; None when that bucket has no limit."""
        policy = self.policies.get(bucket)
        if policy is None:
            return None
        now = self._clock()
        account = self._account(bucket, who, policy)
        if account.leased >= cost and now < account.lease_ends and not self._alone:
            account.leased -= cost
            self._allowed[bucket].inc()
            return Verdict(bucket, account.left + account.leased, account.reset_s, 0)
        verdict = None
        if now >= self._alone_until:
            if self._alone:
                # one request asks whether Redis is back; the others do not wait for it
                self._alone_until = now + _RETRY_REDIS_S
            verdict = self._in_redis(account, bucket, who, policy, cost, now)
        if verdict is None:
            verdict = self._locally(account, bucket, policy, cost, now)
        if verdict.retry_after_s:
            for counter in self._refused[bucket]:
                counter.inc()
        else:
            self._allowed[bucket].inc()
        return verdict

    def headers(self, verdict: Verdict) -> list[tuple[str, str]]:
        """``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-10), ``Retry-After``."""
        said = [
            ("RateLimit", f'"{verdict.bucket}";r={verdict.left};t={verdict.reset_s}'),
            ("RateLimit-Policy", self.policy_headers[verdict.bucket]),
        ]
        if verdict.retry_after_s:
            said.append(("Retry-After", str(verdict.retry_after_s)))
        return said

    def refusal(self, verdict: Verdict) -> Problem:
        """The 429 for a request that was not admitted."""
        policy = self.policies[verdict.bucket]
        return Problem(
            429,
            "rate-limit",
            f"more than {policy.quota} units of {verdict.bucket} in {policy.window_s} s;"
            f" try again in {verdict.retry_after_s} s",
            headers=dict(self.headers(verdict)),
        )

    def _account(self, bucket: str, who: str, policy: Policy) -> _Account:
        account = self._accounts.get((bucket, who))
        if account is None:
            if len(self._accounts) >= _REMEMBERED:
                # the oldest: whoever is still busy is back at once, from Redis
                for key in list(self._accounts)[: _REMEMBERED // 10]:
                    del self._accounts[key]
            account = self._accounts[bucket, who] = _Account(left=policy.burst)
        return account

    def _in_redis(
        self, account: _Account, bucket: str, who: str, policy: Policy, cost: int, now: float
    ) -> Verdict | None:
        unit_us = policy.unit_us
        ahead_us = max(0.0, account.arrival_us - now * 1e6)
        lease = max(cost, min(_LEASE_AT_MOST, int(_LEASE_S * 1e6 / unit_us / 4)))
        try:
            taken, left_us, wait_us = self._script(
                keys=[cache_key(self._source, "limit", bucket, who)],
                args=[
                    f"{unit_us:.3f}", f"{policy.burst * unit_us:.0f}", cost, _LEASE_SHARE * self._workers, lease,
                    f"{ahead_us:.0f}",
                ],
            )  # fmt: skip
        except redis.RedisError as error:
            self._went_away(error)
            return None
        if self._alone:
            self._alone = False
            LIMITS_LOCAL.set(0)
            log.info("limits_in_redis_again")
        account.arrival_us = 0.0
        account.left = max(0, int(left_us / unit_us))
        account.reset_s = math.ceil((policy.burst * unit_us - left_us) / 1e6)
        if not taken:
            return Verdict(bucket, account.left, account.reset_s, max(1, math.ceil(wait_us / 1e6)))
        # several of this worker may have asked at once: what each took is there for all
        account.leased = taken - cost + (account.leased if now < account.lease_ends else 0)
        account.lease_ends = now + _LEASE_S
        return Verdict(bucket, account.left + account.leased, account.reset_s, 0)

    def _locally(self, account: _Account, bucket: str, policy: Policy, cost: int, now: float) -> Verdict:
        """This worker's share of the limit; it goes on from what Redis last said was left."""
        unit_us = policy.unit_us * self._workers
        burst_us = policy.burst * policy.unit_us
        if account.arrival_us == 0.0:
            account.arrival_us = now * 1e6 + burst_us - account.left * policy.unit_us
            account.leased = 0
        arrival_us = max(account.arrival_us, now * 1e6)
        room_us = burst_us - (arrival_us - now * 1e6)
        # a share of the burst may be less than the cost of one request: one always fits into an unused limit
        needed_us = min(cost * unit_us, burst_us)
        if room_us < needed_us:
            return Verdict(bucket, int(room_us / unit_us), 1, max(1, math.ceil((needed_us - room_us) / 1e6)))
        account.arrival_us = arrival_us + needed_us
        left_us = room_us - needed_us
        return Verdict(bucket, int(left_us / unit_us), math.ceil((burst_us - left_us) / 1e6), 0)

    def _went_away(self, error: redis.RedisError) -> None:
        if not self._alone:
            log.warning("limits_without_redis", error=str(error))
            self._alone = True
            LIMITS_LOCAL.set(1)
        self._alone_until = self._clock() + _RETRY_REDIS_S


def _connect(settings: GatewaySettings) -> redis.Redis:
    # once more at once, for a kept connection that a restart of Redis ended; no pause, which would be the request's
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        retry=Retry(NoBackoff(), 1),
    )

"""Rate limits: exact where little is left, shared by the workers, and there when Redis is not."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from ots_gateway.access import Role
from ots_gateway.limits import DEFAULTS, Limiter, Policy
from ots_gateway.settings import GatewaySettings
from ots_native.redis import RedisServer
from ots_native.settings import Ports


def settings(url="redis://127.0.0.1:1/0", **changes):
    return GatewaySettings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing", redis_url=url, upstreams={}, metrics_token="m" * 32,
        jwt_signing_key="A" * 43, **changes,
    )  # fmt: skip


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clean_redis(redis_server):
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    return redis_server.url


def limiter(url, limit, workers=1, **changes):
    return Limiter(settings(url, rate_limits={"read": limit}, workers=workers, **changes))


def admitted(spent):
    return sum(verdict.retry_after_s == 0 for verdict in spent)


def test_a_burst_is_admitted_to_the_last_unit_and_not_one_more(clean_redis):
    one = limiter(clean_redis, "60/60/10")
    told = [one.spend("read", "u", 1) for _ in range(15)]
    assert [verdict.retry_after_s == 0 for verdict in told] == [True] * 10 + [False] * 5
    assert [verdict.left for verdict in told[:10]] == list(range(9, -1, -1))
    assert told[-1].retry_after_s == 1


def test_workers_share_a_limit(clean_redis):
    both = [limiter(clean_redis, "60/60/20", workers=2) for _ in range(2)]
    assert admitted(each.spend("read", "u", 1) for _ in range(20) for each in both) == 20


def test_what_is_taken_ahead_never_admits_more_than_the_limit(clean_redis):
    """Plenty is left at first, so units are taken many at once; near the end one by one."""
    both = [limiter(clean_redis, "6000/60/2000", workers=2) for _ in range(2)]
    began = time.monotonic()
    spent = admitted(each.spend("read", "u", 1) for _ in range(1500) for each in both)
    allowed = 2000 + 100 * (time.monotonic() - began)
    assert 0.97 * 2000 <= spent <= allowed + 1


def test_time_gives_back_what_was_spent(clean_redis):
    one = limiter(clean_redis, "600/60/5")
    assert admitted(one.spend("read", "u", 1) for _ in range(5)) == 5
    refused = one.spend("read", "u", 1)
    assert refused.retry_after_s == 1
    time.sleep(0.25)
    assert admitted(one.spend("read", "u", 1) for _ in range(5)) in (2, 3)


def test_cost_counts(clean_redis):
    one = limiter(clean_redis, "60/60/10")
    assert admitted(one.spend("read", "u", 4) for _ in range(5)) == 2
    assert one.spend("read", "u", 2).retry_after_s == 0


def test_users_and_buckets_are_apart(clean_redis):
    one = Limiter(settings(clean_redis, rate_limits={"read": "60/60/2", "write": "60/60/2"}))
    assert admitted(one.spend("read", "u", 1) for _ in range(4)) == 2
    assert one.spend("read", "v", 1).retry_after_s == 0
    assert one.spend("write", "u", 1).retry_after_s == 0


def test_a_key_does_not_outlive_what_it_counts(clean_redis):
    one = limiter(clean_redis, "60/60/10")
    one.spend("read", "u", 1)
    (key,) = redis.Redis.from_url(clean_redis).keys()
    assert 0 < redis.Redis.from_url(clean_redis).pttl(key) <= 2100


def test_alone_a_worker_admits_its_share_of_what_was_left():
    clock = Clock()
    both = [Limiter(settings(rate_limits={"read": "600/60/60"}, workers=2), clock=clock) for _ in range(2)]
    assert admitted(each.spend("read", "u", 1) for _ in range(100) for each in both) == 60
    clock.now += 1.0
    # ten units a second, for both together
    assert admitted(each.spend("read", "u", 1) for _ in range(100) for each in both) == 10


def test_what_a_user_is_remembered_by_is_bounded(monkeypatch):
    monkeypatch.setattr("ots_gateway.limits._REMEMBERED", 50)
    one = Limiter(settings())
    for number in range(500):
        one.spend("read", f"u{number}", 1)
    assert len(one._accounts) <= 50


@pytest.mark.parametrize("text", ["", "1", "0/60/1", "1/60", "1/0/1", "a/b/c", "-1/60/1"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="rate_limits"):
        settings(rate_limits={"read": text})


def test_a_bucket_that_is_none_is_refused():
    with pytest.raises(ValueError, match="RATE_LIMITS"):
        Limiter(settings(rate_limits={"raed": "1/1/1"}))


def test_scale_zero_is_no_limit():
    assert Limiter(settings(rate_limit_scale=0)).spend("read", "u", 1) is None


def test_a_scale_keeps_every_limit_a_limit():
    assert Policy.parse(DEFAULTS["login"], 0.0001) == Policy(1, 60, 1)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory):
    """One that a test may kill."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), Ports.free().redis, "test-password")
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def limited(start_gateway, gateway, own_redis):
    """Two workers that admit 10 reads a second, 20 at once."""
    with start_gateway(
        gateway.upstream.server_port, gateway.upstream, REDIS_URL=own_redis.url, RATE_LIMIT_SCALE="1",
        RATE_LIMITS='{"read":"600/60/20","open":"600000/60/10000","stranger":"60/60/8","login":"60/60/5"}',
    ) as running:  # fmt: skip
        yield running


def token_of(gateway, name):
    return {"Authorization": f"Bearer {gateway.token_of(gateway.person(name), Role.VIEWER)}"}


def test_the_answer_says_the_limit(limited):
    headers = token_of(limited, "teller")
    answer = limited.ask("GET", "/api/v1/data/runs", headers=headers)
    assert answer.headers["RateLimit-Policy"] == '"read";q=600;w=60'
    assert answer.headers["RateLimit"] == '"read";r=19;t=1'
    with ThreadPoolExecutor(12) as together:
        told = list(together.map(lambda _: limited.ask("GET", "/api/v1/data/runs", headers=headers), range(120)))
    refused = [each for each in told if each.status_code == 429]
    assert refused
    assert refused[0].headers["Retry-After"] == "1"
    assert refused[0].headers["Content-Type"] == "application/problem+json"
    assert refused[0].json()["type"] == "urn:ai-ots:problem:rate-limit"


def test_signing_in_is_limited_by_address(limited):
    body = {"username": "nobody-at-all", "password": "wrong password"}
    told = [limited.ask("POST", "/api/v1/auth/login", json=body).status_code for _ in range(12)]
    assert told[0] == 401
    assert 429 in told


def test_refusals_are_limited_by_address_and_good_requests_are_not(limited):
    told = [
        limited.ask("GET", "/api/v1/data/runs", headers={"Authorization": "Bearer x.y.z"}).status_code
        for _ in range(20)
    ]
    assert (told[0], told[-1]) == (401, 429)
    assert limited.ask("GET", "/api/v1/data/runs", headers=token_of(limited, "neighbour")).status_code == 200


def test_redis_that_dies_and_comes_back_is_not_noticed_by_a_client(limited, own_redis):
    """No 5xx, not 1.2 times the limit, and Redis counts again within five seconds of its return."""
    headers = token_of(limited, "survivor")
    statuses, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            statuses.append(limited.ask("GET", "/api/v1/data/runs", headers=headers).status_code)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    began = time.monotonic()
    for asker in askers:
        asker.start()
    time.sleep(2)
    own_redis.kill()
    time.sleep(4)
    own_redis.start()
    back = time.monotonic()
    client = redis.Redis.from_url(own_redis.url)
    limited.within(5, lambda: any(b"limit:read" in key for key in client.scan_iter()))
    time.sleep(max(0.0, 3 - (time.monotonic() - back)))
    stop.set()
    for asker in askers:
        asker.join()
    seconds = time.monotonic() - began
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 1.2 * (20 + 10 * seconds)
    assert statuses.count(200) >= 0.7 * 10 * seconds

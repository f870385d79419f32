"""Shared answers over a real Redis: made once, bounded, forgotten when told, and no worse without it."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from prometheus_client import REGISTRY

from ots_common import redis_client, shared_cache
from ots_common.cache_keys import cache_key
from ots_common.shared_cache import Cached, Limits, Made, SharedCache, entry_name
from ots_native.redis import RedisServer
from ots_native.settings import Ports

SOURCE = "shared-cache"
BODY = json.dumps({"rows": [{"strike": strike, "bid": None} for strike in range(500)]}).encode()


@pytest.fixture
def client(redis_server):
    found = redis_client.connect(redis_server.url)
    found.flushdb()
    yield found
    found.flushdb()
    found.close()


@pytest.fixture
def cache(client):
    return SharedCache(client, SOURCE)


@pytest.fixture
def own_server(tmp_path):
    server = RedisServer(tmp_path / "redis", Ports.free().redis, "password")
    server.start()
    yield server
    server.remove()


class Maker:
    """Makes an answer, and counts how often."""

    def __init__(self, body=BODY, seconds=0.0):
        self.body, self.seconds, self.times = body, seconds, 0

    def __call__(self):
        self.times += 1
        time.sleep(self.seconds)
        return Made(self.body, "application/json", {"Link": "<next>"})


def ask(cache, make, *parts, kind="chain", **more):
    return cache.get_or_make(kind, parts or ("GOOG",), make, **{"ttl_s": 60, **more})


def counted(kind, result):
    return REGISTRY.get_sample_value("ots_shared_cache_lookups_total", {"kind": kind, "result": result}) or 0


def names(client):
    return {key.decode() for key in client.scan_iter(f"{cache_key(SOURCE, 'derived')}:*")}


def check_books(client):
    """What the index says of the entries is what is there."""
    base = cache_key(SOURCE, "derived-index")
    held = {name: client.strlen(name) for name in names(client)}
    prefix = cache_key(SOURCE, "derived") + ":"
    index = {prefix + name.decode() for name in client.zrange(f"{base}:index", 0, -1)}
    about = {name.decode(): said.decode().split() for name, said in client.hgetall(f"{base}:about").items()}
    totals = {name.decode(): int(n) for name, n in client.hgetall(f"{base}:totals").items()}
    assert index == set(held) == {prefix + name for name in about}
    assert {prefix + name: int(said[0]) for name, said in about.items()} == held
    assert totals.get("bytes", 0) == sum(held.values())
    tagged = {(tag, name) for name, (_, *tags) in about.items() for tag in tags}
    there = {
        (key.decode().rpartition(":")[2], name.decode())
        for key in client.scan_iter(f"{base}:tag:*")
        for name in client.smembers(key)
    }
    assert there == tagged
    for kind in {name.partition(":")[0] for name in about}:
        of_kind = [name for name in about if name.partition(":")[0] == kind]
        assert totals[f"entries:{kind}"] == len(of_kind)
        assert totals[f"bytes:{kind}"] == sum(held[prefix + name] for name in of_kind)


def test_made_once_then_found_with_its_headers_by_another_process(cache, client):
    make = Maker()
    first = ask(cache, make)
    second = ask(SharedCache(redis_client.connect(_url(client)), SOURCE), make)
    assert first == Cached(BODY, "application/json", {"Link": "<next>"}, gzipped=False, hit=False)
    assert second == Cached(BODY, "application/json", {"Link": "<next>"}, gzipped=False, hit=True)
    assert make.times == 1
    assert not list(client.scan_iter(f"{cache_key(SOURCE, 'derived-lock')}*"))
    check_books(client)


def _url(client):
    options = client.connection_pool.connection_kwargs
    return f"redis://:{options['password']}@{options['host']}:{options['port']}/0"


def test_a_body_is_packed_for_who_takes_it_and_kept_so(cache, client):
    make = Maker()
    plain, packed, again, unpacked = (ask(cache, make, gzip=takes) for takes in (False, True, True, False))
    assert (plain.body, plain.gzipped) == (BODY, False)
    assert (gzip.decompress(packed.body), packed.gzipped, packed.hit) == (BODY, True, True)
    assert again == packed
    assert (unpacked.body, unpacked.gzipped) == (BODY, False)
    (name,) = names(client)
    assert client.strlen(name) < len(BODY) / 4
    assert 0 < client.pttl(name) <= 60_000
    assert make.times == 1
    small = ask(cache, Maker(b"{}"), "small", gzip=True)
    assert (small.body, small.gzipped) == (b"{}", False)
    check_books(client)


def test_names_and_sources_do_not_mix(cache, client):
    assert entry_name("chain", ["A:B", "*"]) == "chain:A%3AB:%2A"
    other = SharedCache(client, "another")
    answers = [
        ask(which, Maker(body), *parts).body
        for which, parts, body in (
            (cache, ("A", "B"), b"1"), (cache, ("A:B",), b"2"), (other, ("A", "B"), b"3"), (cache, ("A", "B"), b"4"),
        )
    ]  # fmt: skip
    assert answers == [b"1", b"2", b"3", b"1"]


def test_it_ends_with_its_time(cache, client):
    make = Maker()
    ask(cache, make, ttl_s=0.05)
    time.sleep(0.1)
    assert not ask(cache, make, "GOOG", ttl_s=60).hit
    assert make.times == 2
    ask(cache, make, "short", ttl_s=0.05)
    time.sleep(0.1)
    ask(cache, make, "more")  # whoever puts one takes the ended ones out of the books
    check_books(client)


def test_what_is_too_large_is_not_kept_and_the_lock_is_given_back(client):
    cache = SharedCache(client, SOURCE, Limits(entry_bytes=1000))
    make = Maker()
    not_kept = {"name": "ots_shared_cache_not_kept_total", "labels": {"kind": "chain", "reason": "too_large"}}
    before = REGISTRY.get_sample_value(**not_kept) or 0
    for _ in range(2):
        assert ask(cache, make, ttl_s=60).body == BODY
    assert make.times == 2
    assert REGISTRY.get_sample_value(**not_kept) == before + 2
    assert not list(client.scan_iter(f"{cache_key(SOURCE, 'derived-lock')}*"))
    assert names(client) == set()


def test_the_whole_is_bounded_and_what_ends_soonest_goes(client):
    cache = SharedCache(client, SOURCE, Limits(bytes=5000))
    for n in range(10):
        ask(cache, Maker(b"x" * 1000), str(n), ttl_s=100 - n)
    kept = {name.rpartition(":")[2] for name in names(client)}
    assert kept == {"0", "1", "2", "3"}  # a name and a head of some bytes each
    assert cache.stats()["evicted"] == 6
    assert REGISTRY.get_sample_value("ots_shared_cache_evicted_total") >= 6
    check_books(client)
    few = SharedCache(client, SOURCE, Limits(entries=2))
    ask(few, Maker(b"x"), "new", ttl_s=200)
    assert {name.rpartition(":")[2] for name in names(client)} == {"0", "new"}
    check_books(client)


@pytest.mark.parametrize("lost", [("index",), ("about",), ("totals",), ("index", "about"), ("about", "totals")])
def test_books_that_somebody_tore_up_do_not_stop_it(client, lost):
    cache = SharedCache(client, SOURCE, Limits(bytes=5000))
    for n in range(4):
        ask(cache, Maker(b"x" * 1000), str(n), ttl_s=100, tags=["a"])
    client.delete(*(f"{cache_key(SOURCE, 'derived-index')}:{name}" for name in lost))
    for n in range(20):
        ask(cache, Maker(b"x" * 1000), f"new-{n}", ttl_s=100 + n)
    assert ask(cache, Maker(b"other"), "new-19").hit
    cache.invalidate(tags=["a"])
    cache.stats()


def test_entries_are_forgotten_by_tag_and_by_prefix_so_many_at_a_time(cache, client):
    for underlying in ("GOOG", "AAPL"):
        for n in range(5):
            ask(cache, Maker(), underlying, str(n), tags=[underlying, "odd tag:*"])
            ask(cache, Maker(), underlying, str(n), kind="scan", tags=[underlying])
    client.set(cache_key(SOURCE, "user", "me", "chain:GOOG"), "mine")
    assert cache.invalidate(tags=["GOOG"], most=3) == shared_cache.Invalidated(3, more=True)
    check_books(client)
    assert cache.invalidate(tags=["GOOG"]) == shared_cache.Invalidated(7, more=False)
    assert cache.invalidate(tags=["GOOG", "nothing"]) == shared_cache.Invalidated(0, more=False)
    assert cache.invalidate(prefix="chain:AA", most=4) == shared_cache.Invalidated(4, more=True)
    assert cache.invalidate(prefix="chain:AA", most=4) == shared_cache.Invalidated(1, more=False)
    assert {name.split(":")[3] for name in names(client)} == {"scan"}
    assert cache.invalidate(tags=["odd tag:*"]) == shared_cache.Invalidated(0, more=False)
    check_books(client)
    assert client.get(cache_key(SOURCE, "user", "me", "chain:GOOG")) == b"mine"


def test_what_making_raises_is_raised_and_not_kept(cache, client):
    def fails():
        raise LookupError("no chain")

    for _ in range(2):
        with pytest.raises(LookupError, match="no chain"):
            ask(cache, fails)
    assert not list(client.scan_iter(f"{cache_key(SOURCE, 'derived-lock')}*"))
    assert not ask(cache, Maker()).hit


def test_a_foreign_value_is_a_miss(cache, client):
    name = f"{cache_key(SOURCE, 'derived')}:{entry_name('chain', ['GOOG'])}"
    for value in (b"", b"nonsense", b"[]\nbody", b'{"media_type": "x"}\nbody', b"\x80\x04K\x01."):
        client.set(name, value, px=60_000)
        assert ask(cache, Maker()).body == BODY


@pytest.mark.parametrize("url", ["redis", "redis://127.0.0.1:1/0"])
def test_of_many_threads_one_makes_it(redis_server, client, url):
    cache = SharedCache(redis_client.connect(redis_server.url if url == "redis" else url), SOURCE)
    make = Maker(seconds=0.3)
    barrier = threading.Barrier(16)

    def asks(_):
        barrier.wait()
        return ask(cache, make, gzip=bool(_ % 2))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(asks, range(16)))
    assert make.times == 1
    assert {gzip.decompress(one.body) if one.gzipped else one.body for one in answers} == {BODY}
    assert not any(one.gzipped for one in answers[::2])


def test_what_the_one_raises_reaches_those_who_waited_for_it(cache):
    calls = []

    def fails():
        calls.append(1)
        time.sleep(0.3)
        raise LookupError("no chain")

    def asks(_):
        with pytest.raises(LookupError):
            ask(cache, fails)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(asks, range(8)))
    assert len(calls) == 1


def _ask_from_another_process(url, ready, answers):
    cache = SharedCache(redis_client.connect(url), SOURCE)
    make = Maker(seconds=0.5)
    ready.wait()
    found = ask(cache, make)
    answers.put((make.times, found.body == BODY, found.hit))


def test_of_many_processes_one_makes_it(redis_server, client):
    context = multiprocessing.get_context("fork")
    ready, answers = context.Barrier(4), context.Queue()
    arguments = (redis_server.url, ready, answers)
    processes = [context.Process(target=_ask_from_another_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(10)
    assert sorted(found) == [(0, True, True)] * 3 + [(1, True, False)]


def test_who_waits_for_a_process_that_died_makes_it_after_a_while(client):
    cache = SharedCache(client, SOURCE, Limits(patience_s=0.3))
    client.set(f"{cache_key(SOURCE, 'derived-lock')}:{entry_name('chain', ['GOOG'])}", "of the dead", px=60_000)
    began = time.monotonic()
    assert ask(cache, Maker()).body == BODY
    assert 0.3 <= time.monotonic() - began < 2


def test_who_waits_for_a_process_that_could_not_make_it_does_not_wait_for_nothing(client):
    cache = SharedCache(client, SOURCE)
    lock = f"{cache_key(SOURCE, 'derived-lock')}:{entry_name('chain', ['GOOG'])}"
    client.set(lock, "of another", px=60_000)
    threading.Timer(0.2, client.delete, (lock,)).start()
    began = time.monotonic()
    assert ask(cache, Maker()).body == BODY
    assert time.monotonic() - began < 2


def test_it_is_made_anew_before_its_end_by_one_and_the_others_get_what_there_is(cache, client, monkeypatch):
    ask(cache, Maker(b"old", seconds=0.05), ttl_s=60)
    before = counted("chain", "early")
    monkeypatch.setattr(shared_cache.random, "random", lambda: 0.999999)  # 0.05 s * 13.8
    assert ask(cache, Maker(b"new")).body == b"old"  # it lasts for a minute
    (name,) = names(client)
    client.pexpire(name, 500)

    def fails():
        raise LookupError

    assert ask(cache, fails).body == b"old"  # what there is is as good
    client.set(f"{cache_key(SOURCE, 'derived-lock')}:{entry_name('chain', ['GOOG'])}", "of another", px=60_000)
    assert ask(cache, Maker(b"new")).body == b"old"
    client.delete(f"{cache_key(SOURCE, 'derived-lock')}:{entry_name('chain', ['GOOG'])}")
    assert ask(cache, Maker(b"new")).body == b"new"
    assert counted("chain", "early") == before + 1
    assert client.pttl(name) > 50_000
    check_books(client)


def test_lookups_and_sizes_are_counted_over_all_processes(cache, client):
    other = SharedCache(client, SOURCE)
    for which in (cache, cache, other):
        ask(which, Maker(), tags=["GOOG"])
    other.stats()
    told = cache.stats()
    (name,) = names(client)
    assert told["kinds"] == {"chain": {"hits": 2, "misses": 1, "entries": 1, "bytes": client.strlen(name)}}
    assert told["bytes"] == client.strlen(name)
    assert time.time() * 1000 - 60_000 < told["since_ms"] <= time.time() * 1000


def test_without_redis_answers_are_made_and_nobody_waits_for_it(own_server):
    cache = SharedCache(redis_client.connect(own_server.url), SOURCE)
    make = Maker()
    assert not ask(cache, make).hit
    own_server._process.send_signal(signal.SIGSTOP)  # it takes connections and says nothing
    try:
        before = counted("chain", "unavailable")
        assert ask(cache, make).body == BODY  # one of us waits for its timeout
        began = time.perf_counter()
        for _ in range(50):
            assert ask(cache, make).body == BODY
        assert (time.perf_counter() - began) / 50 < 0.02
        assert counted("chain", "unavailable") == before + 51
        assert REGISTRY.get_sample_value("ots_shared_cache_redis_away") == 1
    finally:
        own_server._process.send_signal(signal.SIGCONT)
    _eventually(lambda: ask(cache, make).hit)
    _eventually(lambda: REGISTRY.get_sample_value("ots_shared_cache_redis_away") == 0)


def test_redis_may_be_killed_and_come_back_in_the_middle_of_anything(own_server):
    cache = SharedCache(redis_client.connect(own_server.url), SOURCE, Limits(patience_s=1, lock_s=1))
    stop, failed, asked = threading.Event(), [], []

    def asks(thread):
        n = 0
        while not stop.is_set():
            n += 1
            body = f"{n % 7}".encode() * 3000
            try:
                found = ask(
                    cache, Maker(body, seconds=0.001), str(n % 7), ttl_s=0.05, tags=["a"], gzip=bool(thread % 2)
                )
                text = gzip.decompress(found.body) if found.gzipped else found.body
                if text != body:
                    failed.append(text[:10])
            except Exception as error:
                failed.append(error)
        asked.append(n)

    threads = [threading.Thread(target=asks, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.4)
        own_server.kill()
        time.sleep(0.4)
        own_server.start()
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert failed == []
    assert min(asked) > 10
    make = Maker()
    _eventually(lambda: ask(cache, make, "after").hit)
    check_books_of = redis.Redis.from_url(own_server.url)
    time.sleep(0.1)
    ask(cache, make, "and more")
    check_books(check_books_of)


def _eventually(question, seconds=10):
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_invalidates_is_told_when_it_could_not_be_done():
    cache = SharedCache(redis_client.connect("redis://127.0.0.1:1/0"), SOURCE)
    with pytest.raises(redis.RedisError):
        cache.invalidate(tags=["GOOG"])
    with pytest.raises(redis.RedisError):
        cache.stats()

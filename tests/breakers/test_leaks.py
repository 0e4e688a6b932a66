"""What passes leaves nothing behind: threads, connections, keys and memory of many breakers, outages and forks."""

from __future__ import annotations

import contextlib
import gc
import os

import pytest
import redis

from regrow.breakers import push, redis_store, turns
from regrow.breakers.redis_store import NAMES_KEY
from regrow.breakers.service import CircuitBreaker
from tests.breakers.callers import breaker_threads, fails
from tests.waiting import eventually

CONNECTIONS = 2  # one that reports, one that listens


@pytest.fixture
def server(own_redis, no_other_threads, monkeypatch):
    monkeypatch.setattr(push, "AGAIN", 0.05)
    monkeypatch.setattr(turns, "RETRY_EVERY", 0.05)
    return own_redis


def connections(server):
    with redis.Redis.from_url(server.url, socket_timeout=2) as client:
        return len(client.client_list()) - 1


def keys(server):
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return set(client.scan_iter("regrow:*", count=1000))


def test_breakers_of_passing_keys_leave_nothing_in_the_process(server, make_reporter, monkeypatch):
    monkeypatch.setattr(redis_store, "ANNOUNCE_EVERY", 0.2)
    shared = make_reporter(server.url)
    parent = CircuitBreaker("payments", reporter=shared, max_keys=20)
    for number in range(600):
        parent.for_key(f"tenant-{number}").call(int)
    gc.collect()
    eventually(lambda: parent.call(int) == 0 and len(shared._cells) <= 21, 20, what="cells are let go")
    store = shared.remote
    eventually(lambda: parent.call(int) == 0 and len(store._announced) < 100, 10, what="and their names")
    assert len(shared.memory._breakers) <= 21
    assert breaker_threads() == ["regrow-breakers", "regrow-breakers-push"]
    assert connections(server) == CONNECTIONS


def test_keys_in_redis_are_a_few_a_breaker_and_all_of_them_end(server, make_reporter):
    shared = make_reporter(server.url)
    breaker = CircuitBreaker("payments", reporter=shared)
    for _ in range(20):
        fails(breaker, 1)
        breaker.reset(actor="ann")
    eventually(lambda: not breaker._cell.busy and not breaker._cell.backlog, 5)
    found = keys(server)
    assert len(found) <= 4
    with redis.Redis.from_url(server.url) as client:
        endless = {key for key in found if client.ttl(key) < 0}
    assert endless == {NAMES_KEY}  # which the worker's monitor weeds


def test_outages_leave_neither_threads_nor_connections(server, make_reporter):
    shared = make_reporter(server.url)
    breaker = CircuitBreaker("payments", reporter=shared)
    for _ in range(4):
        breaker.call(int)
        eventually(lambda: not shared.local and shared._push.listening, 10)
        server.kill()
        fails(breaker, 1)
        eventually(lambda: shared.local and not shared._push.listening, 10)
        server.start()
    eventually(lambda: not shared.local and shared._push.listening, 10)
    breaker.call(int)
    assert breaker_threads() == ["regrow-breakers", "regrow-breakers-push"]
    eventually(lambda: connections(server) == CONNECTIONS, 5)
    assert breaker._cell.lost is None
    assert not shared._away


def test_children_take_their_connections_with_them(server, make_reporter):
    shared = make_reporter(server.url)
    breaker = CircuitBreaker("payments", reporter=shared)
    breaker.call(int)
    eventually(lambda: shared._push.listening, 5)
    before = connections(server)
    for _ in range(5):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                breaker.call(int)
                eventually(lambda: shared._push.listening and not breaker._cell.busy, 10)
                os._exit(0 if breaker_threads() == ["regrow-breakers", "regrow-breakers-push"] else 2)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    breaker.call(int)
    eventually(lambda: connections(server) == before == CONNECTIONS, 5)
    assert breaker_threads() == ["regrow-breakers", "regrow-breakers-push"]


def test_a_process_that_changes_its_redis_lets_go_of_the_first(server, make_reporter, redis_url):
    shared = make_reporter(server.url)
    breaker = CircuitBreaker("payments", reporter=shared)
    breaker.call(int)
    eventually(lambda: connections(server) == CONNECTIONS, 5)
    shared.attach(redis_store.RedisStore.from_url(redis_url))
    breaker.call(int)
    gc.collect()
    eventually(lambda: connections(server) == 0, 5)
    assert breaker_threads() == ["regrow-breakers", "regrow-breakers-push"]

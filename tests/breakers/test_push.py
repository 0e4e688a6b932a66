"""Being told: a change reaches idle processes at once, and nothing depends on it."""

from __future__ import annotations

import contextlib
import os

import pytest
import redis

from regrow.breakers import push, reporter
from regrow.breakers.redis_listening import channel
from regrow.breakers.rules import Look
from regrow.breakers.service import CircuitBreaker
from regrow.breakers.store import MemoryStore
from tests.breakers.callers import breaker_threads, fails
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("no_other_threads")


@pytest.fixture
def server(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def process(make_reporter, redis_url):
    """Breakers of one name, each in a process of its own, which has heard of the store and listens."""

    def make(name="payments", **settings):
        breaker = CircuitBreaker(name, reporter=make_reporter(redis_url), **settings)
        breaker.call(int)
        eventually(lambda: breaker._cell.fleet and breaker._reporter._push.listening, 5)
        return breaker

    return make


@pytest.fixture
def no_looks(monkeypatch):
    """Whoever learns of a change now was told."""
    monkeypatch.setattr(reporter, "LOOK_EVERY", 600.0)


def listeners(server, name="payments"):
    return dict(server.pubsub_numsub(channel(name)))[channel(name)]


def test_an_idle_process_is_told_of_a_trip_and_of_a_persons_order(process, server, no_looks):
    idle, other = process(), process()
    eventually(lambda: listeners(server) == 2, 5)
    fails(other)
    eventually(lambda: idle.state == "open", 5)
    other.reset(actor="ann")
    eventually(lambda: idle.state == "closed", 5)
    assert idle.epoch == other.epoch


def test_a_breaker_made_later_is_followed_and_one_let_go_is_not(process, server):
    first = process()
    later = CircuitBreaker("ledger", reporter=first._reporter)
    tenant = first.for_key("tenant-7")
    later.call(int)
    eventually(lambda: listeners(server, "ledger") == listeners(server, "payments:tenant-7") == 1, 5)
    first._keys._kept.clear()
    del tenant
    first.call(int)
    eventually(lambda: listeners(server, "payments:tenant-7") == 0, 10)
    assert listeners(server) == listeners(server, "ledger") == 1


def test_what_is_published_while_nobody_hears_is_seen_by_the_next_look(process, server, monkeypatch):
    monkeypatch.setattr(push, "AGAIN", 600.0)
    idle, other = process(), process()
    eventually(lambda: listeners(server) == 2, 5)
    server.client_kill_filter(_type="pubsub")
    eventually(lambda: not idle._reporter._push.listening, 5)
    fails(other)
    eventually(lambda: idle.state == "open", 5)


def test_a_listener_that_lost_its_connection_makes_another(process, server, monkeypatch, no_looks):
    monkeypatch.setattr(push, "AGAIN", 0.05)
    idle, other = process(), process()
    eventually(lambda: listeners(server) == 2, 5)
    server.client_kill_filter(_type="pubsub")
    eventually(lambda: listeners(server) == 2, 5)
    fails(other)
    eventually(lambda: idle.state == "open", 5)


def test_a_flood_of_messages_is_a_look_now_and_then(process, server, no_looks):
    breaker = process()
    eventually(lambda: listeners(server) == 1, 5)
    store, looks = breaker._reporter.remote, []
    apply = store.apply
    store.apply = lambda name, config, event, host="": (
        looks.append(event),
        apply(name, config, event, host),
    )[1]
    with server.pipeline(transaction=False) as pipe:
        for epoch in range(5_000):
            pipe.publish(channel("payments"), breaker.epoch + 1 + epoch)
        pipe.execute()
    server.publish(channel("payments"), "what is this?")
    fails(process())
    eventually(lambda: breaker.state == "open", 5)
    looks = [event for event in looks if isinstance(event, Look)]
    assert 1 <= len(looks) < 50


def test_a_user_without_channels_loses_the_push_and_nothing_else(server, redis_url, make_reporter):
    server.acl_setuser(
        "mute", enabled=True, nopass=True, keys=["*"], categories=["+@all"], channels=[], reset_channels=True
    )
    try:
        mute = CircuitBreaker("payments", reporter=make_reporter(redis_url.replace("://", "://mute:x@")))
        other = CircuitBreaker("payments", reporter=make_reporter(redis_url))
        other.call(int)
        fails(mute)
        eventually(lambda: mute.state == other.state == "open", 5)
        assert mute._cell.fleet.breaker.epoch == other.epoch
        assert not mute._reporter.local
    finally:
        server.acl_deluser("mute")


def test_a_process_listens_on_one_connection_until_it_closes(process, server, redis_url):
    breaker = process()
    for number in range(20):
        CircuitBreaker(f"other-{number}", reporter=breaker._reporter).call(int)
    eventually(lambda: listeners(server) == 1, 5)
    ours = [client for client in server.client_list() if client["sub"] != "0"]
    assert len(ours) == 1
    breaker._reporter.close()
    eventually(lambda: listeners(server) == 0, 5)
    eventually(lambda: "regrow-breakers-push" not in breaker_threads(), 5)


def test_a_forked_child_listens_on_its_own(process, server, no_looks):
    breaker = process()
    eventually(lambda: listeners(server) == 1, 5)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            breaker.call(int)
            eventually(lambda: breaker.state == "open", 15)
            os._exit(0)
        os._exit(1)
    eventually(lambda: listeners(server) == 2, 10)
    breaker.force_open(actor="ann")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    eventually(lambda: listeners(server) == 1, 5)


def test_breakers_of_one_process_alone_listen_to_nobody():
    lonely = reporter.Reporter()
    CircuitBreaker("payments", reporter=lonely).call(int)
    assert lonely._push is None
    assert MemoryStore().listen() is None
    lonely.close()

"""Breakers by key: one bad tenant closes no door for the others, and a key that is gone costs nothing."""

from __future__ import annotations

import asyncio
import gc

import pytest

from regrow.breakers.keyed import name_for
from regrow.breakers.service import LONGEST_NAME, CircuitBreaker
from regrow.errors import CircuitOpenError
from tests.waiting import eventually


@pytest.fixture
def reporter(make_reporter):
    return make_reporter()


@pytest.fixture
def make(reporter):
    def breaker(name="payments", **settings):
        settings = {"failure_threshold": 2, "recovery_timeout": 0.1, "success_threshold": 1, **settings}
        return CircuitBreaker(name, reporter=reporter, **settings)

    return breaker


def fail(breaker, count=2):
    def broken():
        raise OSError

    for _ in range(count):
        with pytest.raises(OSError):
            breaker.call(broken)


def refuses(breaker):
    try:
        breaker.call(int)
    except CircuitOpenError:
        return True
    return False


def test_a_key_has_its_parents_settings_and_a_state_of_its_own(make):
    parent = make(recovery_timeout=9, ignore=ValueError)
    bad, good = parent.for_key("tenant-7"), parent.for_key("tenant-8")
    assert (bad.name, bad.config) == ("payments:tenant-7", parent.config)
    assert parent.for_key("tenant-7") is bad
    with pytest.raises(ValueError):
        bad.call(int, "x")
    fail(bad)
    assert (refuses(bad), refuses(good), refuses(parent)) == (True, False, False)
    assert parent.state == "closed"


@pytest.mark.parametrize(
    "act",
    [
        lambda key: key.call(int),
        lambda key: key(int)(),
        lambda key: key.__enter__(),
        lambda key: asyncio.run(key.call_async(asyncio.sleep, 0)),
        lambda key: asyncio.run(key(asyncio.sleep)(0)),
    ],
    ids=["call", "decorator", "with", "call_async", "async decorator"],
)
def test_while_the_parent_is_open_every_key_is_refused_in_every_shape(make, act):
    parent = make()
    key = parent.for_key("tenant-7")
    act(key)
    parent.force_open(actor="ann")
    with pytest.raises(CircuitOpenError) as caught:
        act(key)
    assert caught.value.name == "payments"


def test_a_call_of_a_key_is_the_parents_probe(make):
    parent = make()
    fail(parent)
    key = parent.for_key("tenant-7")
    assert refuses(key)
    eventually(lambda: not refuses(key), 5)
    assert parent.state == "closed"


def test_a_key_that_refuses_gives_the_parents_probe_back(make):
    parent = make()
    key = parent.for_key("tenant-7")
    key.force_open(actor="ann")
    fail(parent)
    eventually(lambda: parent.state == "half_open", 5)
    assert refuses(key)
    eventually(lambda: not refuses(parent), 1.5, what="sooner than a lease runs out")


def test_keys_count_for_the_parent_where_it_wants_them(make):
    parent = make(keys_count=True)
    for key in ("a", "b"):
        fail(parent.for_key(key), 1)
    assert parent.state == "open"


def test_of_many_keys_the_most_recent_are_kept_and_the_rest_cost_nothing(make, reporter):
    parent = make(max_keys=3)
    held = parent.for_key("0")
    for number in range(50):
        parent.for_key(str(number)).call(int)
        parent.for_key("1")
    gc.collect()
    kept = {"payments", "payments:0", "payments:1", "payments:48", "payments:49"}
    eventually(lambda: set(reporter._cells) == kept, 10, what="and the one that somebody holds")
    assert set(reporter.memory.names()) <= kept
    fail(held)
    assert refuses(parent.for_key("0"))


def test_a_key_that_comes_back_finds_what_the_fleet_knows(make_reporter, redis_url):
    reporter = make_reporter(redis_url)
    parent = CircuitBreaker("payments", reporter=reporter, failure_threshold=2, max_keys=1)
    fail(parent.for_key("bad"))
    eventually(lambda: parent.for_key("bad").state == "open", 5)
    parent.for_key("other").call(int)
    gc.collect()
    eventually(lambda: "payments:bad" not in reporter._cells, 10)
    eventually(lambda: refuses(parent.for_key("bad")), 5)


def test_any_text_can_be_a_key():
    assert name_for("payments", "a b{c}é") == "payments:a%20b%7Bc%7D%C3%A9"
    long, longer = name_for("payments", "x" * 500), name_for("payments", "x" * 501)
    assert long != longer
    assert len(long) <= LONGEST_NAME
    CircuitBreaker("payments").for_key("  {\n")

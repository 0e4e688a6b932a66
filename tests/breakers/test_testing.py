"""``regrow.testing``: an application's breakers and retries in a test, without Redis and without waiting."""

from __future__ import annotations

import asyncio
import random

import pytest

import regrow
from regrow import testing
from regrow.breakers import process
from tests.breakers.callers import Refused, breaker_threads, fail, fail_async
from tests.waiting import eventually

SETTINGS = {"failure_threshold": 3, "recovery_timeout": 60, "success_threshold": 1, "half_open_max_calls": 1}


@pytest.fixture
def application(redis_url, no_other_threads, monkeypatch):
    """A breaker as an application makes it when it is imported, on a Redis of its own."""
    monkeypatch.setenv("REGROW_REDIS_URL", redis_url)
    monkeypatch.setattr(process, "_reporter", None)
    yield regrow.CircuitBreaker("test-testing", **SETTINGS)
    process.process_reporter().close()


@pytest.fixture
def clock(application):
    with testing.alone() as clock:
        yield clock


def test_a_breaker_opens_rests_and_closes_by_the_clock_of_the_test(application, clock):
    for _ in range(3):
        with pytest.raises(Refused):
            application.call(fail)
    assert application.state == "open"
    clock.advance(59)
    with pytest.raises(regrow.CircuitOpenError) as refused:
        application.call(int)
    assert refused.value.retry_after == pytest.approx(1)
    clock.advance(1)
    assert application.state == "half_open"
    assert application.call(lambda: "well") == "well"
    assert application.state == "closed"


def test_a_coroutine_and_its_breaker(application, clock):
    async def scene():
        for _ in range(3):
            with pytest.raises(Refused):
                await application.call_async(fail_async)
        with pytest.raises(regrow.CircuitOpenError):
            await application.call_async(asyncio.sleep, 0)

    asyncio.run(scene())


def test_no_redis_is_spoken_to_and_no_thread_is_begun(application, clock, client):
    testing.trip(application)
    regrow.CircuitBreaker("test-testing-other").call(int)
    eventually(lambda: not breaker_threads(), 10, what="those from before have ended")
    assert not client.exists("regrow:{breaker:test-testing-other}:state")


def test_a_long_probe_keeps_its_lease_as_in_truth(application, clock):
    testing.trip(application)
    clock.advance(60)
    probe = application.admit()
    clock.advance(20)
    with pytest.raises(regrow.CircuitOpenError):
        application.call(int)
    probe.success()
    assert application.state == "closed"


def test_calls_come_back_on_a_ramp_by_the_clock(clock):
    breaker = regrow.CircuitBreaker("test-testing-ramp", **SETTINGS, ramp_seconds=100)
    testing.trip(breaker)
    clock.advance(60)
    breaker.call(int)
    made = sum(breaker.call(lambda: 1, fallback=0) for _ in range(1_000))
    assert 0 < made < 200, "a tenth at first"
    clock.advance(100)
    assert sum(breaker.call(lambda: 1) for _ in range(100)) == 100


def test_retries_wait_no_time_and_the_clock_tells_how_long(clock):
    @regrow.retry(max_retries=3, base_delay=10, jitter="none", on=Refused)
    def always():
        raise Refused

    @regrow.retry(max_retries=1, base_delay=10, jitter="none", on=Refused)
    async def always_later():
        raise Refused

    began = clock()
    with pytest.raises(Refused):
        always()
    with pytest.raises(Refused):
        asyncio.run(always_later())
    for attempt in regrow.attempts(regrow.RetryPolicy(base_delay=10, jitter="none")):
        with attempt:
            if attempt.number == 1:
                raise Refused
    assert clock.pauses == [10, 20, 30, 10, 10]
    assert clock() - began == 80


def test_a_retry_waits_for_the_breaker_and_finds_it_well(application, clock):
    answers = [fail, fail, fail, lambda: "well"]

    @regrow.retry(max_retries=3, base_delay=0.1, rng=random.Random(1))
    def ask():
        return application.call(answers.pop(0) if application.state != "open" else fail)

    assert ask() == "well"
    assert 60 <= sum(clock.pauses) < 70


def test_a_budget_is_full_at_first_and_afterwards(clock):
    budget = regrow.RetryBudget(0.1, name="test-testing-budget", per_second=1, burst=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    clock.advance(1)
    assert [budget.spend() for _ in range(2)] == [True, False]


def test_afterwards_all_is_as_new_and_goes_on_with_redis(application, client):
    heard = []
    with testing.alone():
        tenant = application.for_key("tenant")
        testing.trip(tenant)
        testing.trip(application)
        other = regrow.CircuitBreaker("test-testing-new", failure_threshold=1, on_transition=heard.append)
        testing.trip(other)
        assert [one.state for one in (application, other, tenant)] == ["open"] * 3
    heard.clear()
    again = regrow.CircuitBreaker("test-testing-new", failure_threshold=2)
    testing.trip(again)
    eventually(lambda: again.state == "open", 10)
    assert (application.call(int), tenant.call(int), heard) == (0, 0, [])
    eventually(lambda: client.exists("regrow:{breaker:test-testing}:state"), 10)
    eventually(lambda: client.exists("regrow:{breaker:test-testing:tenant}:state"), 10)
    with testing.alone():
        assert (application.state, again.state) == ("closed", "closed")


def test_one_clock_a_process_and_none_that_goes_back(clock):
    with pytest.raises(RuntimeError, match="one clock"), testing.alone():
        pass
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)


def test_reporters_of_others_are_let_be(application, make_reporter):
    ours = regrow.CircuitBreaker("test-testing-theirs", reporter=make_reporter())
    with testing.alone() as clock:
        clock.advance(3_600)
        testing.trip(ours)
    assert ours.state == "open"
    ours._reporter.close()
    assert not ours._reporter._thread.is_alive(), "its thread goes by real time and ends at once"


def test_a_probe_that_hangs_past_its_time_leaves_its_place_to_another(clock):
    breaker = regrow.CircuitBreaker("test-testing-hangs", **SETTINGS, timeout=30)
    testing.trip(breaker)
    clock.advance(60)
    hanging = breaker.admit()
    clock.advance(30)
    with pytest.raises(regrow.CircuitOpenError):
        breaker.admit()
    clock.advance(5)  # its lease is renewed to the end of its time and 2 s more, then it runs out
    another = breaker.admit()
    hanging.success()
    assert breaker.state == "half_open", "it is nobody's word any more"
    another.success()
    assert breaker.state == "closed"

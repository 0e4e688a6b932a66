"""Every shape of a guarded call, on breakers of this process alone."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time

import pytest

import regrow
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError, SettingsError
from tests.waiting import eventually


@pytest.fixture
def make(make_reporter):
    reporter = make_reporter()

    def breaker(name="payments", **settings):
        settings = {"recovery_timeout": 0.1, "success_threshold": 1, **settings}
        return CircuitBreaker(name, reporter=reporter, **settings)

    return breaker


class Refused(Exception):
    pass


def fail():
    raise Refused


async def fail_async():
    raise Refused


def times(count, act):
    for _ in range(count):
        with pytest.raises(Refused):
            act()


def with_block(breaker):
    with breaker:
        fail()


def with_permit(breaker):
    with breaker.admit():
        fail()


def by_hand(breaker):
    permit = breaker.admit()
    try:
        fail()
    except Refused as error:
        permit.failure(error)
        raise


async def async_with_block(breaker):
    async with breaker:
        fail()


SHAPES = {
    "call": lambda breaker: breaker.call(fail),
    "decorator": lambda breaker: breaker(fail)(),
    "with": with_block,
    "with admit": with_permit,
    "admit and report": by_hand,
    "call_async": lambda breaker: asyncio.run(breaker.call_async(fail_async)),
    "async decorator": lambda breaker: asyncio.run(breaker(fail_async)()),
    "async with": lambda breaker: asyncio.run(async_with_block(breaker)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_lets_errors_through_and_the_fifth_opens_the_breaker(make, shape):
    breaker = make(recovery_timeout=60)
    times(5, lambda: SHAPES[shape](breaker))
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError) as caught:
        SHAPES[shape](breaker)
    assert caught.value.name == "payments"
    assert 59 < caught.value.retry_after <= 60


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_can_be_the_probe_whose_failure_opens_it_again(make, shape):
    breaker = make()
    times(5, lambda: breaker.call(fail))
    time.sleep(0.11)
    assert breaker.state == "half_open"
    with pytest.raises(Refused):
        SHAPES[shape](breaker)
    told = breaker._reporter.memory.transitions("payments")
    assert [str(step.to_state) for step in told] == ["open", "half_open", "open"]


def test_arguments_and_results_pass_through(make):
    breaker = make()
    assert breaker.call(divmod, 7, 2) == (3, 1)

    @breaker
    def add(a, *, b):
        """Adds."""
        return a + b

    assert add(1, b=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    with breaker as permit:
        assert permit is not None


def test_after_the_timeout_one_call_probes_and_closes_it(make):
    breaker = make()
    times(5, lambda: breaker.call(fail))
    time.sleep(0.11)
    assert breaker.call(lambda: "well") == "well"
    assert breaker.state == "closed"


def test_while_one_probes_the_others_are_refused(make):
    breaker = make()
    times(5, lambda: breaker.call(fail))
    time.sleep(0.11)
    probe = breaker.admit()
    for _ in range(20):
        with pytest.raises(CircuitOpenError) as caught:
            breaker.admit()
    assert 0 < caught.value.retry_after <= 1
    probe.success()
    assert breaker.state == "closed"


def test_a_permit_counts_once_whatever_is_said_later(make):
    breaker = make(failure_threshold=2)
    permit = breaker.admit()
    permit.failure()
    permit.failure()
    permit.success()
    assert breaker.state == "closed"
    breaker.admit().failure()
    assert breaker.state == "open"


def test_a_released_probe_lets_the_next_caller_probe(make):
    breaker = make()
    times(5, lambda: breaker.call(fail))
    time.sleep(0.11)
    breaker.admit().release()
    assert breaker.state == "half_open"
    breaker.call(lambda: None)
    assert breaker.state == "closed"


def test_the_result_of_a_call_admitted_before_the_trip_counts_for_nothing(make):
    breaker = make()
    late = breaker.admit()
    times(5, lambda: breaker.call(fail))
    breaker.reset(actor="test")
    late.failure()
    for _ in range(4):
        breaker.admit().failure()
    assert breaker.state == "closed"


def test_errors_that_do_not_count_change_nothing(make):
    breaker = make(failure_threshold=1, ignore=(KeyError, lambda error: "mine" in str(error)))
    for error in (KeyError("x"), ValueError("mine"), CircuitOpenError("other", 1.0)):

        def throw(error=error):
            raise error

        with pytest.raises(type(error)):
            breaker.call(throw)
    assert breaker.state == "closed"
    with pytest.raises(ValueError, match="theirs"):
        breaker.call(lambda: (_ for _ in ()).throw(ValueError("theirs")))
    assert breaker.state == "open"


def test_a_function_that_cannot_judge_an_error_hides_it_from_nobody_and_keeps_no_probe(make, caplog):
    breaker = make(failure_threshold=1, ignore=lambda error: error.status == 404)
    with pytest.raises(Refused):
        breaker.call(fail)
    assert breaker.state == "open"
    time.sleep(0.11)
    with pytest.raises(Refused):
        breaker.call(fail)
    assert not breaker._cell.running
    assert [line.exc_info[0] for line in caplog.records if line.message == "breakers.judge_failed"] == [
        AttributeError,
        AttributeError,
    ]


def test_only_recorded_errors_count(make):
    breaker = make(failure_threshold=1, record=OSError)
    times(3, lambda: breaker.call(fail))
    assert breaker.state == "closed"


def test_a_plain_call_that_returns_late_keeps_its_result_and_counts_as_failed(make):
    breaker = make(failure_threshold=1, timeout=0.02)
    assert breaker.call(lambda: time.sleep(0.03) or "late") == "late"
    assert breaker.state == "open"


@pytest.mark.parametrize("shape", ["call", "decorator", "permit", "async"])
def test_slow_calls_open_it_though_every_one_succeeded_and_kept_its_result(make, shape):
    breaker = make(slow_call_duration=0.005, minimum_requests=3, slow_call_rate=1.0, recovery_timeout=60)

    def slow():
        time.sleep(0.006)
        return 42

    async def slow_too():
        return slow()

    def permitted():
        with breaker.admit():
            return slow()

    call = {
        "call": lambda: breaker.call(slow),
        "decorator": breaker(slow),
        "permit": permitted,
        "async": lambda: asyncio.run(breaker.call_async(slow_too)),
    }[shape]
    assert [call() for _ in range(3)] == [42, 42, 42]
    assert breaker.state == "open"
    (told,) = breaker._reporter.memory.transitions("payments")
    assert told.reason == "3 of 3 calls slow"


@pytest.mark.parametrize("shape", ["call", "with"])
def test_a_coroutine_is_cancelled_at_its_timeout_and_counts_as_failed(make, shape):
    breaker = make(failure_threshold=1, timeout=0.02, recovery_timeout=60, record=OSError)

    async def inside():
        if shape == "call":
            await breaker.call_async(asyncio.sleep, 30)
        else:
            async with breaker:
                await asyncio.sleep(30)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(inside())
    assert time.monotonic() - began < 5
    assert breaker.state == "open", "our own timeout counts, whatever record= says"


def test_a_cancelled_call_counts_for_nothing_and_gives_its_probe_back(make):
    breaker = make(failure_threshold=1)
    times(1, lambda: breaker.call(fail))
    time.sleep(0.11)

    async def cancelled():
        task = asyncio.create_task(breaker.call_async(asyncio.sleep, 30))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert breaker.state == "half_open"
    breaker.call(lambda: None)
    assert breaker.state == "closed"


def test_a_hundred_tasks_in_one_loop_keep_their_own_blocks_apart(make):
    breaker = make(failure_threshold=1000, minimum_requests=1000)

    async def one(number):
        async with breaker:
            await asyncio.sleep(0.001 * (number % 7))
            async with breaker:
                await asyncio.sleep(0.001 * (number % 3))
        return number

    async def all_of_them():
        return await asyncio.gather(*(one(number) for number in range(100)))

    assert asyncio.run(all_of_them()) == list(range(100))


def test_a_generator_is_refused_because_guarding_it_would_guard_nothing(make):
    def numbers():
        yield 1

    with pytest.raises(TypeError, match="generator"):
        make()(numbers)


def test_a_block_that_ends_in_another_context_says_what_to_use_instead(make):
    breaker = make()
    block = threading.Thread(target=breaker.__enter__)
    block.start()
    block.join()
    with pytest.raises(RuntimeError, match=r"with breaker\.admit\(\)"):
        breaker.__exit__(None, None, None)


def test_successes_reach_the_window_without_anybody_asking(make):
    breaker = make()
    for _ in range(50):
        breaker.call(lambda: None)
    memory = breaker._reporter.memory
    eventually(lambda: memory._breakers["payments"].successes == 50, 5)


class TestOrders:
    def test_forced_open_refuses_everybody_until_reset(self, make):
        breaker = make()
        breaker.force_open(actor="ann", reason="moving")
        time.sleep(0.11)
        with pytest.raises(CircuitOpenError) as caught:
            breaker.call(lambda: None)
        assert caught.value.retry_after == pytest.approx(0.1)
        breaker.reset(actor="ann")
        assert breaker.call(lambda: 1) == 1

    def test_forced_open_for_a_while_lets_a_probe_through_after_it(self, make):
        breaker = make()
        breaker.force_open(actor="ann", expires_in=0.1)
        assert breaker.state == "open"
        time.sleep(0.11)
        assert breaker.call(lambda: 1) == 1
        assert breaker.state == "closed"

    def test_metrics_only_refuses_nobody_and_says_when_it_would_have_opened(self, make, caplog):
        breaker = make(recovery_timeout=60)
        breaker.metrics_only(actor="ann", reason="new settings")
        with caplog.at_level(logging.WARNING, "regrow.breakers"):
            times(20, lambda: breaker.call(fail))
        assert breaker.state == "closed"
        told = [record for record in caplog.records if record.message == "breaker.would_open"]
        assert [record.reason for record in told] == ["would have opened: 5 failures in a row"]
        breaker.reset(actor="ann")
        times(5, lambda: breaker.call(fail))
        assert breaker.state == "open"

    def test_disabled_lets_every_call_through(self, make):
        breaker = make()
        breaker.disable(actor="ann", reason="load test")
        times(50, lambda: breaker.call(fail))
        assert breaker.state == "closed"

    def test_an_order_needs_somebody_who_gives_it(self, make):
        with pytest.raises(SettingsError, match="actor"):
            make().reset(actor=" ")
        with pytest.raises(SettingsError, match="expires_in"):
            make().disable(actor="ann", expires_in=0)


class TestNames:
    def test_breakers_are_shared_by_name(self):
        first = regrow.CircuitBreaker("test-names-shared", failure_threshold=2)
        assert regrow.get_circuit_breaker("test-names-shared") is first
        again = regrow.CircuitBreaker("test-names-shared")
        assert again.config.failure_threshold == 2

    def test_whoever_asks_first_does_not_settle_the_settings(self):
        early = regrow.get_circuit_breaker("test-names-early")
        regrow.CircuitBreaker("test-names-early", failure_threshold=2)
        assert early.config.failure_threshold == 2

    def test_other_settings_for_the_same_name_are_refused_with_the_difference(self):
        regrow.CircuitBreaker("test-names-other", failure_threshold=2)
        with pytest.raises(SettingsError, match="failure_threshold is 2, not 3"):
            regrow.CircuitBreaker("test-names-other", failure_threshold=3)

    @pytest.mark.parametrize("name", ["", "a b", "{a}", "a\n", "x" * 191])
    def test_a_name_that_redis_or_people_would_stumble_over_is_refused(self, name):
        with pytest.raises(SettingsError):
            regrow.CircuitBreaker(name)


def test_the_refusal_survives_being_sent_between_processes():
    error = copy.copy(CircuitOpenError("payments", 12.5, recovering=True))  # as pickle does, without pickle
    assert (error.name, error.retry_after, error.recovering) == ("payments", 12.5, True)


def test_each_transition_is_one_log_line_with_its_fields(make, caplog):
    breaker = make()
    with caplog.at_level("INFO", logger="regrow.breakers"):
        times(5, lambda: breaker.call(fail))
        time.sleep(0.11)
        breaker.call(lambda: None)
    lines = [record for record in caplog.records if record.message.startswith("breaker.")]
    assert [line.message for line in lines] == ["breaker.opened", "breaker.half_open", "breaker.closed"]
    assert (lines[0].breaker, lines[0].failure_rate, lines[0].reason) == (
        "payments",
        1.0,
        "5 failures in a row",
    )
    assert lines[0].epoch < lines[1].epoch < lines[2].epoch


def test_without_redis_it_is_said_once_that_breakers_are_not_shared(make, caplog):
    with caplog.at_level("WARNING", logger="regrow.breakers"):
        breaker = make()
        times(5, lambda: breaker.call(fail))
        eventually(lambda: any("breakers.local" in line.message for line in caplog.records), 5)
    assert sum("breakers.local" in line.message for line in caplog.records) == 1

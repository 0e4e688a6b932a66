"""Breakers of several processes on one real server."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time

import pytest

import regrow
from regrow.breakers import process as this_process
from regrow.breakers import show
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.reporter import Reporter
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError
from tests.breakers.callers import admitted, fails, run
from tests.waiting import eventually


@pytest.fixture
def whole_process(redis_url, monkeypatch):
    """The process-wide reporter on this Redis, put back afterwards."""
    before = this_process._reporter
    reporter = Reporter(RedisStore.from_url(redis_url))
    monkeypatch.setattr(this_process, "_reporter", reporter)
    yield reporter
    reporter.close()
    monkeypatch.setattr(this_process, "_reporter", before)


def test_a_trip_in_one_process_refuses_calls_in_the_other(process):
    first, second = process(), process()
    assert second.call(lambda: 1) == 1
    fails(first)
    eventually(lambda: second.state == "open", 5)
    with pytest.raises(CircuitOpenError):
        second.call(lambda: 1)


def test_a_busy_process_hears_of_a_trip_within_a_tenth_of_a_second_or_so(process):
    first, second = process(), process()
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            try:
                second.call(time.sleep, 0.001)
            except CircuitOpenError:
                return

    thread = threading.Thread(target=busy)
    thread.start()
    second.call(time.sleep, 0.3)
    began = time.monotonic()
    fails(first)
    eventually(lambda: second.state == "open", 5, every=0.005)
    passed = time.monotonic() - began
    stop.set()
    thread.join()
    assert passed < 0.5


def test_one_failure_in_each_of_five_processes_is_five_in_a_row(process):
    fleet = [process() for _ in range(5)]
    for breaker in fleet:
        fails(breaker, 1)
    eventually(lambda: all(breaker.state == "open" for breaker in fleet), 5)


def test_what_a_process_sees_before_it_has_heard_the_epoch_counts_all_the_same(process, redis_url, client):
    process().reset(actor="ann")  # an epoch that the new process cannot know
    assert run("fails(regrow.CircuitBreaker('payments'))", redis_url).wait(20) == 0
    assert show(client, "payments").state == "open"


def test_a_process_that_fails_and_ends_at_once_still_publishes_its_trip(redis_url, client):
    assert run("fails(regrow.CircuitBreaker('payments'))", redis_url).wait(20) == 0
    assert show(client, "payments").state == "open"


def test_two_real_processes_share_a_trip(redis_url):
    other = run(
        """
        breaker = regrow.CircuitBreaker("payments")
        breaker.call(lambda: None)
        print("ready", flush=True)
        deadline = time.monotonic() + 15
        while breaker.state != "open" and time.monotonic() < deadline:
            time.sleep(0.01)
        print(breaker.state)
        """,
        redis_url,
    )
    assert other.stdout.readline() == "ready\n"
    assert run("fails(regrow.CircuitBreaker('payments'))", redis_url).wait(20) == 0
    assert other.communicate(timeout=20)[0] == "open\n"


class TestForks:
    def test_a_forked_pool_process_publishes_its_trip(self, whole_process, client):
        breaker = regrow.CircuitBreaker("forked", minimum_requests=1000)
        breaker.call(lambda: None)  # the parent's thread runs, its locks and sockets are in use
        child = multiprocessing.get_context("fork").Process(target=fails, args=(breaker,))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        assert show(client, "forked").state == "open"
        eventually(lambda: breaker.state == "open", 5)

    def test_a_bare_fork_publishes_what_it_flushes_and_nothing_of_its_parents(self, whole_process, client):
        breaker = regrow.CircuitBreaker("bare", failure_threshold=1000, minimum_requests=1000)
        whole_process._bell.wait = lambda _timeout: time.sleep(0.05)  # the parent is slow to report
        for _ in range(3):
            breaker.call(lambda: None)
        pid = os.fork()
        if pid == 0:
            fails(breaker, 2)
            regrow.breakers.flush()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        eventually(lambda: (status := show(client, "bare")) and status.successes == 3, 5)
        status = show(client, "bare")
        assert (status.successes, status.failures) == (3, 2)

    def test_a_forked_child_reports_while_it_lives_without_being_told(self, whole_process, client):
        breaker = regrow.CircuitBreaker("living")
        breaker.call(lambda: None)
        pid = os.fork()
        if pid == 0:
            fails(breaker)
            time.sleep(60)
            os._exit(0)
        try:
            eventually(lambda: (status := show(client, "living")) and status.state == "open", 10)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


QUICK = {"recovery_timeout": 0.3, "success_threshold": 2}


class TestProbes:
    def test_a_long_probe_keeps_its_lease(self, process):
        breaker, other = process(**QUICK), process(**QUICK)
        fails(breaker)
        eventually(lambda: breaker.state == other.state == "half_open", 5)
        permit = eventually(lambda: admitted(breaker), 5)
        deadline = time.monotonic() + 3  # longer than a lease
        while time.monotonic() < deadline:
            with pytest.raises(CircuitOpenError):
                other.admit()
            time.sleep(0.05)
        permit.success()
        eventually(lambda: breaker._cell.fleet.breaker.probe_successes == 1, 5)

    def test_who_was_refused_while_it_was_open_finds_a_probe_waiting_afterwards(self, process):
        breaker = process(**QUICK)
        fails(breaker)
        eventually(lambda: breaker.state != "closed", 5)
        with pytest.raises(CircuitOpenError):
            breaker.call(lambda: 1)
        eventually(lambda: breaker._cell.parked, 5)
        time.sleep(2.5)  # longer than a lease: it is renewed while nobody else wants it
        assert breaker.call(lambda: 1) == 1

    def test_an_unused_probe_goes_to_a_process_that_has_a_caller(self, process):
        idle, busy = process(**QUICK), process(**QUICK)
        fails(idle)
        eventually(lambda: idle.state != "closed", 5)
        with pytest.raises(CircuitOpenError):
            idle.call(lambda: 1)
        eventually(lambda: idle._cell.parked, 5)
        eventually(lambda: admitted(busy), 8)

    @pytest.mark.parametrize("kind", ["plain", "async"])
    def test_a_rare_caller_that_may_wait_gets_the_probe_at_its_first_try(self, process, kind):
        fails(process(**QUICK))
        time.sleep(0.5)
        rare = process(**QUICK, probe_wait=2.0)
        eventually(lambda: rare.state == "half_open", 5)
        if kind == "plain":
            assert rare.call(lambda: 1) == 1
        else:

            async def answer():
                return 1

            assert asyncio.run(rare.call_async(answer)) == 1


def test_an_order_given_in_one_process_holds_in_all(process, client):
    first, second = process(), process()
    second.call(lambda: None)
    first.force_open(actor="ann", reason="moving the database")
    eventually(lambda: second.state == "open", 5)
    status = show(client, "payments")
    assert (status.override, status.override_actor) == ("forced_open", "ann")
    second.reset(actor="bob")
    eventually(lambda: first.state == "closed", 5)


def test_callers_never_talk_to_the_store_and_ten_thousand_calls_are_a_few_reports(redis_url):
    callers = []

    class Watched(RedisStore):
        def apply(self, name, config, event, host=""):
            callers.append(threading.current_thread().name)
            return super().apply(name, config, event, host)

    reporter = Reporter(Watched.from_url(redis_url))
    breaker = CircuitBreaker("payments", reporter=reporter)
    began = time.monotonic()
    for _ in range(10_000):
        breaker.call(lambda: None)
    fails(breaker, 3)
    passed = time.monotonic() - began
    eventually(lambda: breaker._cell.fleet and breaker._cell.fleet.breaker.failures == 3, 5)
    reporter.close()
    assert set(callers[:-1]) <= {"regrow-breakers"}
    assert len(callers) < 20 + passed * 100


def test_idle_breakers_cost_one_look_every_two_seconds_and_no_thread_more(process, client):
    breaker = process()
    breaker.call(lambda: None)
    eventually(lambda: breaker._reporter.idle, 10)
    before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    threads = threading.active_count()
    time.sleep(2.5)
    looks = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert looks <= 3
    assert threading.active_count() <= threads


def test_a_process_connects_when_it_makes_a_breaker_and_a_pool_that_will_fork_does_not(redis_url):
    code = """
        breaker = regrow.CircuitBreaker("payments")
        deadline = time.monotonic() + (1 if "celery" in sys.modules else 15)
        while breaker._cell.fleet is None and time.monotonic() < deadline:
            time.sleep(0.01)
        print(breaker._cell.fleet is not None)
    """
    plain, pool = run(code, redis_url), run("        import celery" + code, redis_url)
    assert plain.communicate(timeout=30)[0] == "True\n"
    assert pool.communicate(timeout=30)[0] == "False\n"

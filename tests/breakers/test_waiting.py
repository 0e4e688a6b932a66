"""A caller that may wait for leave to probe (``probe_wait``): it waits, and no lease is lost over it."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from regrow.breakers import admission
from regrow.breakers.cell import LEASE, Cell, Probe
from regrow.breakers.reporter import Reporter
from regrow.breakers.rules import Breaker, BreakerConfig, State
from regrow.breakers.service import CircuitBreaker
from regrow.breakers.store import MemoryStore, Outcome
from regrow.errors import CircuitOpenError
from tests.breakers.callers import admitted, fails
from tests.waiting import eventually


class Fleet(MemoryStore):
    """A store that several processes share, as if over a network."""

    remote = True


@pytest.fixture
def process():
    """A breaker as a process holds it, half-open."""
    fleet, made = Fleet(), []

    def make(**settings):
        made.append(Reporter(fleet))
        breaker = CircuitBreaker(
            "payments", reporter=made[-1], recovery_timeout=0.05, success_threshold=1, **settings
        )
        if len(made) == 1:
            fails(breaker)
        eventually(lambda: breaker.state == "half_open", 5)
        return breaker

    yield make
    for reporter in made:
        reporter.close()


class TestTheTimeIsOver:
    def test_for_a_caller_too_who_read_the_clock_before_the_last_look(self, process, monkeypatch):
        breaker = process(probe_wait=5)

        def clock():
            now = time.monotonic()
            breaker._reporter._turn_safely(breaker._cell)  # as it happens where threads take turns
            return now

        monkeypatch.setattr(admission, "timer", SimpleNamespace(monotonic=clock))
        permit = breaker.admit()
        assert permit.is_probe
        permit.release()

    def test_when_it_was_first_thought_to_be_however_late_an_answer_comes(self):
        cell = Cell("payments", BreakerConfig())
        opened = Outcome(Breaker(State.OPEN, epoch=1, open_until=1050), 1000, True, (), cell.config)
        cell.hear(opened, now=10.0)
        cell.hear(opened, now=10.3)  # the same look, 300 ms on its way
        assert cell.gate.reopens_at == pytest.approx(10.05)


class TestALeaseAndThoseWhoWait:
    @pytest.fixture
    def cell(self):
        cell = Cell("payments", BreakerConfig())
        cell.hear(Outcome(Breaker(State.HALF_OPEN, epoch=1), 1000, True, (), cell.config), now=0.0)
        return cell

    def test_one_that_is_too_old_is_no_answer(self, cell):
        waiter: Future[Probe | None] = Future()
        cell.waiters.append(waiter)
        cell.parked.append(Probe("old", 1, valid_until=LEASE, renewed_at=0.0))
        cell.serve_waiters(LEASE)
        assert not waiter.done()
        cell.parked.append(Probe("new", 1, valid_until=2 * LEASE, renewed_at=LEASE))
        cell.serve_waiters(LEASE)
        assert waiter.result(0).token == "new"
        assert list(cell.running) == ["new"]

    def test_who_gave_up_gets_none_and_is_forgotten(self, cell):
        gone, here = Future(), Future()
        gone.cancel()
        cell.waiters.extend([gone, here])
        cell.serve_waiters(0.0)
        assert list(cell.waiters) == [here]
        here.cancel()
        cell.parked.append(Probe("token", 1, valid_until=LEASE, renewed_at=0.0))
        cell.serve_waiters(0.0)
        assert [probe.token for probe in cell.parked] == ["token"]
        assert not cell.waiters
        assert not cell.running


class Interrupted(Exception):
    """As a soft time limit interrupts."""


def test_a_caller_that_is_interrupted_leaves_the_probe_to_others(process):
    first = process()
    running = eventually(lambda: admitted(first), 5)
    breaker = process(probe_wait=20)

    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            breaker.admit()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    running.release()
    breaker._probe_wait = 0
    eventually(lambda: admitted(breaker), 5)


def test_a_caller_waits_for_anothers_probe_where_there_is_no_redis_too(make_reporter):
    reporter = make_reporter()
    breaker = CircuitBreaker("payments", reporter=reporter, recovery_timeout=0.05, probe_wait=20)
    fails(breaker)
    eventually(lambda: breaker.state == "half_open", 5)
    running, waiting = breaker.admit(), threading.Thread(target=lambda: got.append(breaker.admit()))
    got = []
    waiting.start()
    eventually(lambda: breaker._cell.waiters, 5)
    running.success()
    waiting.join(5)
    assert got[0].is_probe


def test_a_task_that_is_cancelled_sees_its_cancellation_and_no_refusal(process, monkeypatch):
    monkeypatch.setattr(admission, "chance", lambda: 1.0)  # the last to be let in again
    first = process(ramp_seconds=100)
    running = eventually(lambda: admitted(first), 5)
    breaker = process(ramp_seconds=100, probe_wait=20)

    async def cancelled():
        task = asyncio.ensure_future(breaker.admit_async())
        await asyncio.sleep(0.05)
        [waiter] = breaker._cell.waiters
        running.success()
        eventually(waiter.done, 5)  # without a turn of the loop: the task has not heard of it
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_a_refusal_while_calls_come_back_does_not_say_open(process, monkeypatch):
    monkeypatch.setattr(admission, "chance", lambda: 0.99)
    breaker = process(ramp_seconds=100)
    eventually(lambda: admitted(breaker), 5).success()
    eventually(lambda: breaker.state == "closed", 5)
    with pytest.raises(CircuitOpenError, match=r"^circuit breaker 'payments' has closed and lets calls back"):
        breaker.admit()

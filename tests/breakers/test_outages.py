"""Redis frozen, killed, emptied, absent: callers see their own results and nothing else, and at once."""

from __future__ import annotations

import signal
import threading
import time

import pytest
import redis

from regrow.breakers import show
from regrow.breakers.redis_store import state_key
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError, StoreUnavailableError
from tests.breakers.callers import Refused, fail, fails
from tests.waiting import eventually


@pytest.fixture
def process(make_reporter, own_redis):
    def make(**settings):
        return CircuitBreaker("payments", reporter=make_reporter(own_redis.url), **settings)

    return make


def status(server):
    with redis.Redis.from_url(server.url, decode_responses=True, socket_timeout=2) as client:
        return show(client, "payments")


class Load:
    """Threads that call and note what they see: the time around the user's code, and any foreign error.

    One thread beside them calls nothing. While it cannot run either, the machine had no time for this process.
    """

    def __init__(self, breaker, threads=4):
        self.breaker = breaker
        self.overheads: list[float] = []
        self.foreign: list[BaseException] = []
        self.refused = 0
        self._slow: list[tuple[float, float]] = []
        self._stalls: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._callers = [threading.Thread(target=self._work, args=(n,)) for n in range(threads)]
        self._threads = [threading.Thread(target=self._idle), *self._callers]

    @property
    def waited_for_redis(self) -> bool:
        """Whether as many calls as there are callers took as long as a wait for Redis (250 ms).

        Whatever makes one caller wait for Redis makes all of them wait: they share the breaker and its locks.
        A single late thread is the scheduler's.
        """
        slow = [
            (began, ended)
            for began, ended in self._slow
            if not any(since < ended and began < until for since, until in self._stalls)
        ]
        return len(slow) >= len(self._callers)

    def _idle(self):
        last = time.perf_counter()
        while not self._stop.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            if now - last > 0.05:
                self._stalls.append((last, now))
            last = now

    def _work(self, number):
        calls = 0
        while not self._stop.is_set():
            calls += 1
            began = time.perf_counter()
            try:
                self.breaker.call(fail if calls % 10 == 0 else int)
            except Refused:
                pass
            except CircuitOpenError:
                self.refused += 1
            except BaseException as error:  # what must not happen, whatever it is
                self.foreign.append(error)
            ended = time.perf_counter()
            self.overheads.append(ended - began)
            if ended - began > 0.2:
                self._slow.append((began, ended))
            time.sleep(0.001)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


def test_callers_that_wait_are_noticed():
    class Waits:
        def call(self, fn):
            time.sleep(0.25)

    with Load(Waits()) as load:
        eventually(lambda: len(load.overheads) >= 8, 5)
    assert load.waited_for_redis


@pytest.mark.parametrize("outage", ["frozen", "killed"])
def test_under_load_no_caller_sees_an_outage_or_waits_for_it(process, own_redis, outage):
    breaker = process()
    with Load(breaker) as load:
        eventually(lambda: breaker._cell.fleet, 5)
        if outage == "frozen":
            own_redis.signal(signal.SIGSTOP)
        else:
            own_redis.kill()
        eventually(lambda: breaker._reporter.local, 5)
        time.sleep(1.5)
        if outage == "frozen":
            own_redis.signal(signal.SIGCONT)
        else:
            own_redis.start()
        eventually(lambda: not breaker._reporter.local, 10)
        eventually(lambda: status(own_redis).successes > 0, 5)
    assert load.foreign == []
    assert load.refused == 0
    slow = sorted(load.overheads)
    assert len(slow) > 2000
    assert slow[int(len(slow) * 0.99)] < 0.02  # two busy cores alone make single calls late
    assert not load.waited_for_redis


@pytest.mark.parametrize("outage", ["frozen", "killed"])
def test_without_redis_a_process_trips_and_recovers_by_itself(process, own_redis, outage):
    breaker = process(recovery_timeout=0.3, success_threshold=1)
    assert breaker.call(int) == 0
    eventually(lambda: breaker._cell.fleet, 5)
    if outage == "frozen":
        own_redis.signal(signal.SIGSTOP)
    else:
        own_redis.kill()
    fails(breaker, 1)
    eventually(lambda: breaker._reporter.local, 5)
    fails(breaker, 4)
    eventually(lambda: breaker.state == "open", 5, every=0.01)  # at once, or after the turn that is under way
    time.sleep(0.31)
    assert breaker.call(int) == 0
    assert breaker.state == "closed"


def test_under_load_an_emptied_redis_is_no_event(process, own_redis):
    breaker = process(failure_threshold=1000, failure_rate=1.0)
    with Load(breaker) as load, redis.Redis.from_url(own_redis.url) as client:
        for _ in range(10):
            eventually(lambda: (seen := status(own_redis)) and seen.successes > 0, 5, every=0.01)
            client.flushall()
        assert not breaker._reporter.local
    assert load.foreign == []
    assert load.refused == 0
    assert not load.waited_for_redis


def test_what_failed_while_redis_was_away_trips_the_fleet_when_it_is_back(process, own_redis):
    breaker, other = process(), process()
    breaker.call(int)
    other.call(int)
    eventually(lambda: breaker._cell.fleet and other._cell.fleet, 5)
    own_redis.kill()
    fails(breaker)
    eventually(lambda: breaker.state == "open", 5)
    assert other.state == "closed"
    own_redis.start()
    eventually(lambda: status(own_redis).state == "open", 10)
    eventually(lambda: other.state == "open", 10)
    assert breaker.state == "open"


def test_a_process_takes_over_what_the_fleet_decided_meanwhile(process, own_redis):
    breaker = process()
    breaker.call(int)
    eventually(lambda: breaker._cell.fleet, 5)
    breaker._reporter.remote.apply, working = _away, breaker._reporter.remote.apply
    breaker.call(int)
    eventually(lambda: breaker._reporter.local, 5)
    fails(process())
    eventually(lambda: status(own_redis).state == "open", 5)
    assert breaker.state == "closed"
    breaker._reporter.remote.apply = working
    eventually(lambda: breaker.state == "open", 5)


def _away(*_):
    raise StoreUnavailableError("away")


def test_a_report_that_a_frozen_redis_took_after_all_is_counted_once(process, own_redis):
    breaker = process(failure_threshold=100, minimum_requests=1000)
    breaker.call(int)
    eventually(lambda: (seen := status(own_redis)) and seen.successes == 1, 5)
    own_redis.signal(signal.SIGSTOP)
    fails(breaker, 3)
    eventually(lambda: breaker._reporter.local, 5)
    fails(breaker, 2)
    own_redis.signal(signal.SIGCONT)
    eventually(lambda: not breaker._reporter.local and not breaker._cell.backlog, 10)
    breaker.call(int)
    eventually(lambda: status(own_redis).successes == 2, 5)
    assert status(own_redis).failures == 5


def test_an_emptied_redis_is_told_again_what_the_fleet_knows(process, own_redis):
    breaker, other = process(), process()
    other.call(int)
    fails(breaker)
    eventually(lambda: breaker.state == other.state == "open", 5)
    epoch = breaker.epoch
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
    eventually(lambda: (seen := status(own_redis)) and seen.state == "open", 10)
    assert status(own_redis).epoch == epoch
    assert status(own_redis).retry_after > 40
    assert breaker.state == other.state == "open"


def test_an_override_survives_an_emptied_redis(process, own_redis):
    breaker = process()
    breaker.disable(actor="ann", reason="load test", expires_in=100)
    breaker.call(int)
    eventually(lambda: breaker._cell.gate.override, 5)
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
    eventually(lambda: (seen := status(own_redis)) and seen.override == "disabled", 10)
    seen = status(own_redis)
    assert (seen.override_actor, seen.override_reason) == ("ann", "load test")
    assert seen.override_until is not None


def test_evidence_right_after_redis_was_emptied_is_not_lost(process, own_redis):
    breaker = process()
    breaker.reset(actor="ann")
    breaker.call(int)
    eventually(lambda: status(own_redis).successes == 1, 5)
    with redis.Redis.from_url(own_redis.url) as client:
        client.delete(state_key("payments"), "regrow:{breaker:payments}:transitions")
    fails(breaker)
    eventually(lambda: status(own_redis).state == "open", 5)


def test_an_order_that_would_not_reach_the_fleet_is_refused(process, own_redis):
    breaker = process()
    breaker.call(int)
    own_redis.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            breaker.force_open(actor="ann")
    assert breaker.state == "closed"


def test_the_outage_and_its_end_are_logged_once(process, own_redis, caplog):
    with caplog.at_level("INFO", logger="regrow.breakers"):
        breaker = process()
        breaker.call(int)
        eventually(lambda: breaker._cell.fleet, 5)
        own_redis.kill()
        fails(breaker, 1)
        eventually(lambda: breaker._reporter.local, 5)
        time.sleep(2.2)
        own_redis.start()
        eventually(lambda: "breakers.redis_back" in caplog.messages, 10)
    told = [record.message for record in caplog.records if "redis" in record.message]
    assert told == ["breakers.redis_away", "breakers.redis_back"]

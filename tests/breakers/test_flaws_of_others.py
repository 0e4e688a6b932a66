"""The flaws that scripts show in other circuit breakers, each as a promise that ours keeps.

One test a flaw, in the order in which the design lists them; which library has it stands in the docstring.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from pathlib import Path

import pytest
import redis
import time_machine

import regrow
from regrow.breakers import process as this_process
from regrow.breakers import show
from regrow.breakers.redis_store import RedisStore, state_key
from regrow.breakers.reporter import Reporter
from regrow.breakers.rules import AskProbe, BreakerConfig, ProbeResult, Report, SettleProbe
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError
from tests.breakers.callers import Refused, fail, fail_async, fails, probing, run, until_closed
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.worker.processes import Program, Surroundings, ready, running

QUICK = {"recovery_timeout": 0.3, "success_threshold": 2}


@pytest.fixture(scope="module")
def _frail_server():
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def frail_redis(_frail_server):
    """A server that a test may freeze, kill or fill; well again for the next."""
    yield _frail_server
    _frail_server.signal(signal.SIGCONT)
    if not _frail_server.answers():
        _frail_server.start()
    with redis.Redis.from_url(_frail_server.url) as client:
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.fixture
def frail(make_reporter, frail_redis):
    """A breaker on that server, which has heard of it."""

    def make(**settings):
        breaker = CircuitBreaker("payments", reporter=make_reporter(frail_redis.url), **settings)
        breaker.call(int)
        eventually(lambda: breaker._cell.fleet, 10)
        return breaker

    return make


def in_threads(work, number):
    """``work(n)`` in threads that begin together."""
    start = threading.Barrier(number)

    def begin(n):
        start.wait()
        work(n)

    threads = [threading.Thread(target=begin, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_lock_held_during_the_users_call(process):
    """pybreaker: 8 calls of 50 ms took 404 ms."""
    breaker, meeting = process(), threading.Barrier(8)
    in_threads(lambda _n: breaker.call(meeting.wait, 10), 8)
    assert not meeting.broken, "eight calls met inside"


def test_four_of_five_calls_fail_and_it_never_trips(process):
    """pybreaker: only failures in a row count."""
    breaker = process()
    for number in range(20):
        with contextlib.suppress(Refused, CircuitOpenError):
            breaker.call(int if number % 5 == 0 else fail)
    eventually(lambda: breaker.state == "open", 5)


def test_twenty_breakers_make_twenty_probes(process):
    """pybreaker: every process probes for itself."""
    fleet = [process(**QUICK) for _ in range(20)]
    fails(fleet[0])
    eventually(lambda: all(breaker.state != "closed" for breaker in fleet), 10)
    inside, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    in_threads(lambda n: until_closed(fleet[n], work), 20)
    assert [breaker.state for breaker in fleet] == ["closed"] * 20
    assert most == 1


def test_an_old_probes_success_closes_a_breaker_that_opened_again(process, client):
    """pybreaker: a success is a success, whenever it was admitted."""
    breaker = process(recovery_timeout=0.2, success_threshold=1, half_open_max_calls=2)
    fails(breaker)
    old = eventually(lambda: probing(breaker), 10)
    eventually(lambda: probing(breaker), 10).failure()
    eventually(lambda: (seen := show(client, "payments")) and seen.epoch > old._probe.epoch, 5)
    old.success()
    breaker._reporter.flush()
    eventually(lambda: not breaker._cell.settled, 5)
    time.sleep(0.1)
    assert show(client, "payments").state != "closed"


def test_another_hosts_clock_makes_five_seconds_an_hour(process, client, redis_url):
    """pybreaker: the opening is stored by the clock of the host that saw it."""
    ahead = run(
        """
        real = time.time
        time.time = lambda: real() + 3600
        fails(regrow.CircuitBreaker("payments", recovery_timeout=5))
        """,
        redis_url,
    )
    assert ahead.wait(20) == 0
    assert show(client, "payments").retry_after <= 5
    here = process(recovery_timeout=5)
    eventually(lambda: here.state == "open", 5)
    with pytest.raises(CircuitOpenError) as refused:
        here.call(int)
    assert refused.value.retry_after <= 5


def test_redis_down_and_the_constructor_raises(make_reporter):
    """pybreaker: the state is read when the breaker is made."""
    reporter = make_reporter("redis://127.0.0.1:1/0")
    breaker = CircuitBreaker("payments", reporter=reporter)
    fails(breaker)
    eventually(lambda: breaker.state == "open", 5)
    assert reporter.local


def test_fifty_failures_at_once_at_threshold_five_and_it_stays_closed(process, client):
    """purgatory: GET, then SET, and updates are lost in between."""
    fleet = [process() for _ in range(5)]

    def fail_once(number):
        fails(fleet[number % 5], 1)

    in_threads(fail_once, 50)
    eventually(lambda: (seen := show(client, "payments")) and seen.state == "open", 10)
    told = RedisStore(client).transitions("payments")
    assert len(told) == 1, "and it opens once"


def test_redis_down_and_the_guarded_code_never_runs(make_reporter):
    """purgatory: the error of the store comes before the call."""
    breaker = CircuitBreaker("payments", reporter=make_reporter("redis://127.0.0.1:1/0"))
    assert breaker.call(lambda: 42) == 42
    assert asyncio.run(breaker.call_async(asyncio.sleep, 0, 43)) == 43


def test_a_killed_prober_leaves_it_half_open_for_ever(process, redis_url):
    """nopanic-redis and interlock-cb: who may probe is noted, and nobody else may from then on."""
    breaker = process(**QUICK)
    fails(breaker)
    prober = run(
        """
        breaker = regrow.CircuitBreaker("payments", recovery_timeout=0.3, success_threshold=2)
        while True:
            try:
                permit = breaker.admit()
                if permit.is_probe:
                    break
                permit.release()
            except regrow.CircuitOpenError:
                pass
            time.sleep(0.01)
        print("probing", flush=True)
        time.sleep(60)
        """,
        redis_url,
    )
    assert prober.stdout.readline() == "probing\n"
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    prober.kill()
    prober.wait()
    eventually(lambda: probing(breaker), 6)


def test_a_hash_that_healthy_traffic_never_trims():
    """nopanic-redis: only a trip empties the window."""
    import fakeredis

    server = fakeredis.FakeRedis()
    store = RedisStore(server)
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        for sequence in range(1, 400):
            clock.shift(0.7)
            report = Report(0, 2, 0, 0, process="p1", sequence=sequence)
            store.apply("payments", BreakerConfig(), report)
    assert sum(len(value) for value in server.hgetall(state_key("payments")).values()) < 4000
    assert len(server.keys("*")) <= 4


def test_after_a_fork_a_childs_trip_is_never_published(redis_url, client, tmp_path: Path):
    """interlock-cb: the thread that publishes stays in the parent. Here: Celery's pool."""
    around = Surroundings(tmp_path, redis_url, redis_url, redis_url)
    program = Program(
        around,
        ["-A", "tests.breakers.prefork", "worker", "-n", "prefork@test", "-c", "2", "--loglevel=INFO"],
        tmp_path / "prefork.log",
    )
    with running(program):
        ready(program)
        for _ in range(6):
            around.send("prefork.fail", queue="prefork")
        eventually(lambda: (seen := show(client, "payments")) and seen.state == "open", 30)


def test_ninety_of_ninety_calls_of_a_fleet_fail_nine_in_each_worker(process):
    """interlock-cb: every worker counts for itself, and nine are too few."""
    fleet = [process(failure_threshold=1000, minimum_requests=80) for _ in range(10)]
    for breaker in fleet:
        fails(breaker, 9)
    eventually(lambda: all(breaker.state == "open" for breaker in fleet), 10)


def test_a_breakers_loop_dies_with_asyncio_run(redis_url, client, monkeypatch):
    """interlock-cb: one asyncio.run a task, as in Celery, and the second loop has no publisher."""
    monkeypatch.setattr(this_process, "_reporter", Reporter(RedisStore.from_url(redis_url)))
    breaker = regrow.CircuitBreaker("one-run-a-task")
    for _ in range(5):
        with pytest.raises(Refused):
            asyncio.run(breaker.call_async(fail_async))
    eventually(lambda: (seen := show(client, "one-run-a-task")) and seen.state == "open", 5)
    this_process._reporter.close()


def test_half_open_is_invisible_to_peers(process, client):
    """asyncbreaker, aiobreaker: half-open is a variable of the process that probes."""
    prober, peer = process(**QUICK), process(**QUICK)
    peer.call(int)
    fails(prober)
    eventually(lambda: probing(prober), 5)
    eventually(lambda: peer.state == "half_open", 5)
    assert (show(client, "payments").state, show(client, "payments").probes) == ("half_open", 1)
    with pytest.raises(CircuitOpenError):
        peer.call(int)


def test_the_event_loop_is_frozen_by_a_sync_client(frail, frail_redis):
    """aiobreaker-redis: a blocking client inside the coroutine."""
    breaker, lags = frail(), []

    async def calls(until):
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                await breaker.call_async(asyncio.sleep, 0.005)
            except CircuitOpenError:
                await asyncio.sleep(0.005)
            lags.append(time.monotonic() - began - 0.005)

    async def main():
        frail_redis.signal(signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(calls(time.monotonic() + 1.0))

    asyncio.run(main())
    eventually(lambda: breaker._reporter.local, what="the loss is noticed, if not meanwhile")
    # A wait for Redis would be 250 ms, of every task at once.
    assert len(lags) > 300
    assert sorted(lags)[int(len(lags) * 0.99)] < 0.1


def test_a_storage_error_after_the_work_ran(frail, frail_redis):
    """asyncbreaker: the caller gets the error of the store in place of the result."""
    breaker = frail()

    def paid():
        frail_redis.kill()
        return "paid"

    async def paid_later():
        return "paid"

    assert breaker.call(paid) == "paid"
    assert asyncio.run(breaker.call_async(paid_later)) == "paid"
    with pytest.raises(Refused):
        breaker.call(fail)


def test_a_half_open_place_is_granted_without_a_look_at_the_time(process, client):
    """baldur: whoever asks first, however early."""
    breaker = process(recovery_timeout=60, half_open_max_calls=5)
    fails(breaker)
    eventually(lambda: breaker.state == "open", 5)
    ran = []
    for _ in range(20):
        with pytest.raises(CircuitOpenError):
            breaker.call(ran.append, 1)
    assert ran == []
    assert not RedisStore(client).apply("payments", None, AskProbe("early")).accepted


def test_a_success_that_needs_no_token(process, client):
    """baldur: any success of a half-open breaker counts as a probe's."""
    breaker = process(recovery_timeout=0.2, success_threshold=1)
    fails(breaker)
    permit = eventually(lambda: probing(breaker), 5)
    forged = SettleProbe("forged", permit._probe.epoch, ProbeResult.SUCCESS)
    assert not RedisStore(client).apply("payments", None, forged).accepted
    assert show(client, "payments").state == "half_open"


def test_the_fleets_lock_is_held_around_the_users_call(process, redis_url):
    """gobreaker's distributed breaker: one call at a time in the whole fleet."""
    first, second = process(), process()
    inside, through = threading.Event(), threading.Event()

    def long():
        inside.set()
        assert through.wait(10), "the other process's call went through meanwhile"

    caller = threading.Thread(target=first.call, args=(long,))
    caller.start()
    assert inside.wait(5)
    assert second.call(lambda: "through") == "through"
    through.set()
    caller.join(5)
    assert not caller.is_alive()


def test_an_error_of_redis_refuses_the_call(frail, frail_redis):
    """gobreaker's distributed breaker: what Redis will not store, nobody may call."""
    breaker = frail()
    with redis.Redis.from_url(frail_redis.url) as client:
        client.config_set("maxmemory", 1)
    assert breaker.call(lambda: 42) == 42
    fails(breaker, 1)
    eventually(lambda: breaker._reporter.local, 5, what="Redis answers with errors, and is done without")
    assert breaker.call(lambda: 43) == 43


def test_late_results_of_an_earlier_state_count_as_probes(process, client):
    """resilience4j, Polly: a call from before the trip ends while the breaker is half-open."""
    breaker = process(recovery_timeout=0.2, success_threshold=1)
    early = [breaker.admit() for _ in range(4)]
    fails(breaker)
    probe = eventually(lambda: probing(breaker), 5)
    epoch = probe._probe.epoch
    early[0].success()
    early[1].failure()
    early[2].success()
    breaker._reporter.flush()
    time.sleep(0.1)
    seen = show(client, "payments")
    assert (seen.state, seen.epoch) == ("half_open", epoch), "neither closed nor opened by them"
    probe.success()
    eventually(lambda: show(client, "payments").state == "closed", 5)
    early[3].failure()
    breaker._reporter.flush()
    assert show(client, "payments").failures == 0

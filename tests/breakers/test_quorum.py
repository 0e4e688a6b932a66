"""Who fails, the fleet or one host of it: the rules by themselves, and real processes on one server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import regrow
from regrow.breakers import list_breakers, quorum, show
from regrow.breakers.redis_store import RedisStore, state_key
from regrow.breakers.rules import (
    LEASE_MS,
    AskProbe,
    Breaker,
    BreakerConfig,
    Look,
    Order,
    OrderKind,
    ProbeResult,
    Report,
    Restore,
    SettleProbe,
    State,
    apply,
    shown_state,
)
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError
from tests.waiting import eventually

NOW = 1_800_000_000_000
OPEN, CLOSED, HALF_OPEN = State.OPEN, State.CLOSED, State.HALF_OPEN


class Fleet:
    """Hosts and their breaker, without a store."""

    def __init__(self, *hosts, config=None):
        self.config = config or BreakerConfig()
        self.breaker, self.now, self.told, self.tokens = Breaker(), NOW, [], 0
        for host in hosts:
            self.let(Look(), host)

    def let(self, event, host=""):
        step = apply(self.config, self.breaker, event, self.now, host)
        self.breaker = step.breaker
        self.told += step.transitions
        return step

    def pass_ms(self, ms, *alive):
        """Time passes while these hosts look as idle ones do, every 2 s."""
        end = self.now + ms
        while self.now < end:
            self.now = min(end, self.now + 2_000)
            for host in alive:
                self.let(Look(), host)

    def report(self, host, outcomes, *, slow=0, epoch=None):
        run = len(outcomes) - len(outcomes.rstrip("f"))
        epoch = self.seen(host).epoch if epoch is None else epoch
        return self.let(Report(epoch, outcomes.count("s"), outcomes.count("f"), run, slow=slow), host)

    def probe(self, host, result=ProbeResult.SUCCESS):
        self.tokens += 1
        asked = self.let(AskProbe(f"t{self.tokens}"), host)
        return (
            asked.accepted
            and self.let(SettleProbe(f"t{self.tokens}", self.seen(host).epoch, result), host).accepted
        )

    def seen(self, host):
        return quorum.seen_from(self.breaker, host)

    def states(self, *hosts):
        return [shown_state(self.seen(host), self.now) for host in hosts]


def test_with_one_host_alive_its_word_is_the_fleets():
    fleet = Fleet("a")
    fleet.report("a", "fffff")
    assert (fleet.breaker.state, fleet.told[-1].reporter) == (OPEN, "")


def test_a_bad_host_among_others_opens_for_itself_at_once_and_for_nobody_else():
    fleet = Fleet("a", "b", "c")
    fleet.report("a", "fffff")
    assert (fleet.breaker.state, fleet.states("a", "b", "c")) == (CLOSED, [OPEN, CLOSED, CLOSED])
    assert [(told.reporter, told.reason) for told in fleet.told] == [("a", "5 failures in a row")]


def test_successes_of_others_do_not_hide_a_bad_host():
    fleet = Fleet("a", "b")
    for _ in range(5):
        fleet.report("a", "f")
        fleet.report("b", "ss")
    assert fleet.states("a", "b") == [OPEN, CLOSED]


def test_a_bad_host_that_fails_now_and_then_opens_by_its_rate():
    fleet = Fleet("a", "b", "c")
    for _ in range(5):
        fleet.report("b", "ssss")
        fleet.report("c", "ssss")
        fleet.report("a", "fs")
    assert fleet.states("a", "b", "c") == [OPEN, CLOSED, CLOSED]
    assert fleet.told[-1].reason == "5 of 10 calls failed"


def test_failures_of_two_hosts_in_a_row_open_the_fleet():
    fleet = Fleet("a", "b", "c")
    fleet.report("a", "fff")
    fleet.report("b", "ff")
    assert (fleet.breaker.state, fleet.told[-1].reporter) == (OPEN, "")


def test_ninety_failures_spread_nine_per_worker_open_the_fleet_through_healthy_traffic():
    hosts = [f"worker-{number}" for number in range(10)]
    fleet = Fleet(*hosts)
    counts = Counter()
    for _ in range(9):
        for host in hosts:
            if fleet.breaker.state is CLOSED:
                fleet.report(host, "sf")  # no five in a row anywhere
                counts[host] += 1
    assert fleet.breaker.state is OPEN
    assert max(counts.values()) < 9, "it opened long before the ninetieth"


def test_what_a_bad_host_did_does_not_open_the_fleet_with_the_next_innocent_failure():
    fleet = Fleet("a", "b", "c")
    for _ in range(4):
        fleet.report("a", "ffff")
    assert fleet.states("a") == [OPEN]
    for host in "bc" * 10:
        fleet.report(host, "sssf")
    assert fleet.breaker.state is CLOSED
    assert (fleet.breaker.failures, fleet.breaker.successes) == (20, 60)


def test_the_second_of_two_hosts_that_fails_after_the_first_opens_the_fleet_and_ends_what_was_its_own():
    fleet = Fleet("a", "b", "c")
    fleet.report("a", "fffff")
    fleet.report("b", "ffff")
    assert fleet.breaker.state is CLOSED
    fleet.report("b", "f")
    assert fleet.states("a", "b", "c") == [OPEN] * 3
    assert (fleet.seen("a"), fleet.told[-1].reporter) == (fleet.breaker, "")


def test_two_bad_hosts_among_many_healthy_ones_open_for_themselves():
    fleet = Fleet(*"abcdefgh")
    for _ in range(10):
        for host in "abcdefgh":
            fleet.report(host, "f" if host in "ab" and fleet.seen(host).state is CLOSED else "ss")
    assert fleet.states(*"abcdefgh") == [OPEN] * 2 + [CLOSED] * 6


def test_a_bad_host_recovers_alone():
    fleet = Fleet("a", "b")
    fleet.report("a", "fffff")
    fleet.pass_ms(60_000, "a", "b")
    assert fleet.states("a", "b") == [HALF_OPEN, CLOSED]
    assert not fleet.let(AskProbe("x"), "b").accepted
    assert all(fleet.probe("a") for _ in range(3))
    assert fleet.states("a", "b") == [CLOSED, CLOSED]
    assert [told.to_state for told in fleet.told] == [OPEN, HALF_OPEN, CLOSED]
    assert {told.reporter for told in fleet.told} == {"a"}
    assert [told.previous for told in fleet.told] == [0, fleet.told[0].epoch, fleet.told[1].epoch]
    fleet.report("a", "s")
    assert fleet.breaker.successes == 1, "it counts for the fleet again"


def test_what_a_host_was_admitted_to_before_it_opened_alone_says_nothing_afterwards():
    fleet = Fleet("a", "b")
    fleet.report("a", "fffff")
    fleet.pass_ms(60_000, "a", "b")
    for _ in range(3):
        fleet.probe("a")
    assert not fleet.report("a", "ffffff", epoch=fleet.breaker.epoch).accepted
    assert fleet.states("a", "b") == [CLOSED, CLOSED]


def test_a_host_that_died_is_not_waited_for():
    fleet = Fleet("a", "b")
    fleet.pass_ms(quorum.PRESENT_MS, "a")
    fleet.report("a", "fffff")
    assert fleet.breaker.state is OPEN


def test_an_idle_host_that_lives_is_not_taken_for_dead():
    fleet = Fleet("a", "b")
    fleet.pass_ms(600_000, "a", "b")
    fleet.report("a", "fffff")
    assert fleet.states("a", "b") == [OPEN, CLOSED]


def test_a_host_that_dies_while_it_is_open_alone_is_told_and_forgotten():
    fleet = Fleet("a", "b")
    fleet.report("a", "fffff")
    fleet.pass_ms(62_000, "b")
    assert [host.name for host in fleet.breaker.hosts] == ["b"]
    assert (fleet.told[-1].reporter, fleet.told[-1].reason) == ("a", "its reporter is gone")


def test_slow_calls_of_one_host_open_it_alone_and_those_of_two_the_fleet():
    fleet = Fleet("a", "b")
    fleet.report("b", "s" * 10)
    fleet.report("a", "s" * 10, slow=10)
    assert fleet.states("a", "b") == [OPEN, CLOSED]
    fleet = Fleet("a", "b", "c")
    for host in "abcabc":
        fleet.report(host, "s" * 4, slow=4)
    assert fleet.breaker.state is OPEN


def test_in_shadow_a_host_that_would_have_opened_alone_is_told_and_counted():
    fleet = Fleet("a", "b")
    fleet.let(Order(OrderKind.METRICS_ONLY, "ann", ""))
    fleet.report("a", "fffff")
    assert fleet.states("a", "b") == [CLOSED, CLOSED]
    assert (fleet.told[-1].reporter, fleet.told[-1].would_open, fleet.breaker.would_open) == ("a", True, 1)
    assert not fleet.report("a", "fffff").accepted, "an open one would have seen none"
    assert fleet.report("b", "s").accepted


def test_a_persons_order_holds_for_every_host():
    fleet = Fleet("a", "b")
    fleet.report("a", "fffff")
    fleet.let(Order(OrderKind.RESET, "ann", ""))
    assert fleet.states("a", "b") == [CLOSED, CLOSED]
    fleet.let(Order(OrderKind.FORCE_OPEN, "ann", ""))
    assert fleet.states("a", "b") == [OPEN, OPEN]


def test_more_hosts_than_are_told_apart_count_as_one():
    fleet = Fleet(*(f"h{number}" for number in range(quorum.MAX_HOSTS + 20)))
    assert len(fleet.breaker.hosts) == quorum.MAX_HOSTS + 1
    fleet.report("h70", "fff")
    fleet.report("h80", "ff")
    assert fleet.states("h70", "h75", "h1") == [OPEN, OPEN, CLOSED]


def test_a_store_that_forgot_is_told_what_a_host_had_of_its_own():
    fleet = Fleet("a", "b")
    known = Restore(NOW + 7, OPEN, open_ms=30_000, alone=True)
    assert fleet.let(known, "a").accepted
    assert fleet.states("a", "b") == [OPEN, CLOSED]
    assert not fleet.let(known, "a").accepted


def test_names_of_hosts_are_made_fit_to_be_kept():
    assert quorum.host_name("web:7;{x}~") == "web-7--x--"
    assert len(quorum.host_name("x" * 300)) == quorum.LONGEST_HOST


class QuorumMachine(RuleBasedStateMachine):
    """Any order of what hosts do; one of them is bad all the time, the others are as it comes."""

    hosts = st.sampled_from("abcd")

    @initialize(calls=st.integers(1, 2), window=st.sampled_from([10, 40]), others_fail=st.booleans())
    def begin(self, calls, window, others_fail):
        config = BreakerConfig(
            half_open_max_calls=calls, recovery_timeout=10, window_size=window, success_threshold=2
        )
        self.fleet = Fleet(*"abcd", config=config)
        self.others_fail = others_fail
        self.held = {host: [] for host in "abcd"}

    @rule(ms=st.sampled_from([0, 50, 900, 3_000, 11_000]))
    def time_passes(self, ms):
        self.fleet.pass_ms(ms, *"abcd")

    @rule(host=hosts, outcomes=st.text("sf", min_size=1, max_size=6))
    def report(self, host, outcomes):
        if host != "a" and not self.others_fail:
            outcomes = "s" * len(outcomes)
        before = self.fleet.breaker
        self.fleet.report(host, outcomes)
        if "f" not in outcomes:
            assert self.fleet.breaker.state is before.state or self.others_fail

    @rule(host=hosts)
    def ask(self, host):
        self.fleet.tokens += 1
        if self.fleet.let(AskProbe(f"t{self.fleet.tokens}"), host).accepted:
            assert self.fleet.seen(host).state is HALF_OPEN

    @rule(host=hosts, result=st.sampled_from(ProbeResult))
    def settle(self, host, result):
        seen = self.fleet.seen(host)
        for lease in seen.leases[:1]:
            assert self.fleet.let(SettleProbe(lease.token, seen.epoch, result), host).accepted

    @invariant()
    def one_bad_host_never_opens_the_fleet(self):
        if not self.others_fail:
            assert self.fleet.breaker.state is CLOSED
            assert self.fleet.states(*"bcd") == [CLOSED] * 3

    @invariant()
    def probes_are_limited_for_the_fleet_and_for_each_host(self):
        most = self.fleet.config.half_open_max_calls
        for part in (self.fleet.breaker, *(host.own for host in self.fleet.breaker.hosts)):
            assert len(part.leases) <= most
            assert all(lease.expires <= self.fleet.now + LEASE_MS for lease in part.leases)

    @invariant()
    def while_the_fleet_is_not_closed_no_host_is_on_its_own(self):
        if self.fleet.breaker.state is not CLOSED:
            assert all(self.fleet.seen(host) is self.fleet.breaker for host in "abcd")

    @invariant()
    def every_chain_of_transitions_is_whole_and_all_epochs_grow(self):
        last: dict[str, int] = {}
        for told in self.fleet.told:
            assert told.previous == last.get(told.reporter, 0)
            assert told.epoch > max(last.values(), default=0)
            last[told.reporter] = told.epoch

    @invariant()
    def the_parts_of_the_run_are_no_more_than_the_run(self):
        breaker = self.fleet.breaker
        assert 0 <= sum(host.shared for host in breaker.hosts) <= breaker.run


TestQuorumMachine = QuorumMachine.TestCase
TestQuorumMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


# On stores, in processes ------------------------------------------------------------------------------


def test_ninety_failures_nine_per_worker_on_every_store(store):
    workers = [f"worker-{number}" for number in range(10)]
    config = BreakerConfig(recovery_timeout=60)
    for worker in workers:
        store.apply("payments", config, Look(), worker)
    opened = 0
    for _ in range(9):
        for worker in workers:
            opened += bool(store.apply("payments", config, Report(0, 1, 1, 1), worker).transitions)
    assert opened == 1
    assert store.apply("payments", None, Look()).breaker.state is OPEN


def test_what_an_earlier_version_left_in_redis_is_read(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        now = client.time()[0] * 1000
        old = {"state": "closed", "epoch": 7, "since": now, "run": 4, "window": f"{now}:3:4:0"}
        client.hset(state_key("payments"), mapping=old)
    store = RedisStore.from_url(redis_url)
    breaker = store.apply("payments", BreakerConfig(), Look(), "a").breaker
    assert (breaker.epoch, breaker.successes, breaker.failures) == (7, 3, 4)
    assert store.apply("payments", None, Report(7, 0, 1, 1), "a").breaker.state is OPEN


@pytest.fixture
def on_host(make_reporter, redis_url):
    """A breaker as a process of some host would hold it, that has made a call."""

    def make(host, **settings):
        breaker = CircuitBreaker("payments", reporter=make_reporter(redis_url, host=host), **settings)
        breaker.call(int)
        eventually(lambda: breaker._cell.fleet, 5)
        return breaker

    return make


def fails(breaker, times=5):
    for _ in range(times):
        with contextlib.suppress(ZeroDivisionError, CircuitOpenError):
            breaker.call(lambda: 1 / 0)


def answers(breaker):
    try:
        return breaker.call(lambda: "yes")
    except CircuitOpenError:
        return None


def test_one_bad_host_opens_all_its_processes_and_nobody_elses_and_recovers_alone(on_host, redis_url):
    settings = {"recovery_timeout": 0.5, "success_threshold": 1}
    bad, beside, good = on_host("bad", **settings), on_host("bad", **settings), on_host("good", **settings)
    heard = []
    stop = regrow.breakers.listen(heard.append)
    try:
        fails(bad)
        eventually(lambda: bad.state != "closed", 5)
        eventually(lambda: beside.state != "closed", 5)
        assert (good.state, answers(good)) == ("closed", "yes")
        with redis.Redis.from_url(redis_url) as client:
            assert [(seen.name, seen.state == "closed") for seen in list_breakers(client)] == [
                ("payments", True),
                ("payments@bad", False),
            ]
            assert show(client, "payments@bad").reporter == "bad"
            reporters = show(client, "payments").reporters
            assert {one.name: (one.state == "closed", one.alive) for one in reporters} == {
                "bad": (False, True),
                "good": (True, True),
            }
        eventually(lambda: answers(beside), 5)
        eventually(lambda: bad.state == beside.state == "closed", 5)
    finally:
        stop()
    assert {change.reporter for change in heard} == {"bad"}
    assert not good._cell.refusals.drain()


def test_an_outage_for_all_hosts_opens_the_fleet(on_host):
    fleet = [on_host(host) for host in ("a", "b")]
    for breaker in fleet * 3:
        fails(breaker, 2)
    eventually(lambda: [breaker.state for breaker in fleet] == ["open", "open"], 5)


def test_a_host_whose_clocks_are_an_hour_ahead_moves_no_breaker_and_is_told_right(on_host, redis_url):
    """Its wall clock and its monotonic clock both; what counts is the store's."""
    behind = on_host("right", recovery_timeout=60)
    ahead = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import time
                for name in ("time", "monotonic"):
                    real = getattr(time, name)
                    setattr(time, name, lambda real=real: real() + 3600)
                import regrow
                breaker = regrow.CircuitBreaker("payments", recovery_timeout=60)
                breaker.call(int)
                while breaker._cell.fleet is None:
                    time.sleep(0.01)
                print("ready", flush=True)
                input()
                while True:
                    try:
                        breaker.call(lambda: 1 / 0)
                    except ZeroDivisionError:
                        time.sleep(0.01)
                    except regrow.CircuitOpenError as refused:
                        print(refused.retry_after, flush=True)
                        break
                """
            ),
        ],
        env={**os.environ, "REGROW_REDIS_URL": redis_url, "REGROW_REPORTER": "ahead"},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert ahead.stdout.readline() == "ready\n"
        told = float(ahead.communicate("go\n", timeout=20)[0])
    finally:
        ahead.kill()
        ahead.wait()
    fails(behind)
    eventually(lambda: behind.state == "open", 5)
    with pytest.raises(CircuitOpenError) as refused:
        behind.call(int)
    assert 50 < told <= 60
    assert 40 < refused.value.retry_after <= 60


def test_a_killed_host_is_not_waited_for(on_host, make_reporter, redis_url):
    left, killed = on_host("left"), on_host("killed")
    killed._reporter.close()
    since = time.monotonic()
    with redis.Redis.from_url(redis_url) as client:
        eventually(lambda: [one.alive for one in show(client, "payments").reporters] == [True, False], 15)
    assert time.monotonic() - since < quorum.PRESENT_MS / 1000 + 3
    fails(left)
    with redis.Redis.from_url(redis_url) as client:
        eventually(lambda: show(client, "payments").state == "open", 5)

"""What every store of breakers does, in memory, on fakeredis and on a real server."""

from __future__ import annotations

import random
import threading
import time

import fakeredis
import pytest
import redis
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.breakers import quorum
from regrow.breakers.redis_store import NAMES_KEY, RedisStore, process_key, state_key, transitions_key
from regrow.breakers.rules import (
    AskProbe,
    Breaker,
    BreakerConfig,
    Look,
    Order,
    OrderKind,
    OverrideKind,
    ProbeResult,
    RenewProbe,
    Report,
    Restore,
    SettleProbe,
    State,
)
from regrow.breakers.store import MemoryStore
from regrow.errors import StoreUnavailableError

CONFIG = BreakerConfig(recovery_timeout=0.15, success_threshold=1)


def trip(store, name="payments", config=CONFIG):
    look = store.apply(name, config, Look()).breaker
    return store.apply(name, config, Report(look.epoch if look else 0, 0, 5, 5))


def test_a_breaker_nobody_used_is_not_there(store):
    assert store.apply("payments", None, Look()).breaker is None
    assert store.names() == []


def test_the_whole_life_of_a_breaker(store):
    name = "payments"
    assert store.apply(name, CONFIG, Report(0, 3, 1, 1)).breaker.state is State.CLOSED
    opened = trip(store)
    assert opened.breaker.state is State.OPEN
    assert not store.apply(name, CONFIG, AskProbe("a")).accepted
    time.sleep(0.16)
    half = store.apply(name, CONFIG, AskProbe("a"))
    assert half.accepted
    assert half.breaker.state is State.HALF_OPEN
    settled = store.apply(name, CONFIG, SettleProbe("a", half.breaker.epoch, ProbeResult.SUCCESS))
    assert settled.breaker.state is State.CLOSED
    told = store.transitions(name)
    assert [step.to_state for step in told] == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert [step.previous for step in told] == [0, told[0].epoch, told[1].epoch]
    assert (told[0].failures, told[0].successes, told[0].reason) == (6, 3, "6 failures in a row")
    assert store.transitions(name, after=told[1].epoch) == told[2:]
    assert store.names() == [name]


def test_a_report_sent_twice_is_counted_once(store):
    report = Report(0, 2, 3, 3, process="p1", sequence=1)
    assert store.apply("payments", CONFIG, report).accepted
    again = store.apply("payments", CONFIG, report)
    assert not again.accepted
    assert (again.breaker.successes, again.breaker.failures) == (2, 3)
    other = store.apply("payments", CONFIG, Report(0, 0, 1, 1, process="p2", sequence=1))
    assert other.accepted


def test_a_report_is_known_again_for_as_long_as_its_process_may_send_it(redis_url):
    config = BreakerConfig(window_seconds=600)  # of an absence, a process submits what is within the window
    report = Report(0, 2, 0, 0, process="p1", sequence=1)
    now = [1_000_000]
    memory, shared = MemoryStore(lambda: now[0]), RedisStore.from_url(redis_url)
    memory.apply("payments", config, report)
    now[0] += 601_000
    assert not memory.apply("payments", config, report).accepted
    shared.apply("payments", config, report)
    with redis.Redis.from_url(redis_url) as client:
        assert client.pttl(process_key("payments", "p1")) > 601_000


def test_a_report_of_an_earlier_epoch_may_be_sent_again_under_the_new_one(store):
    opened = trip(store)
    closed = store.apply("payments", CONFIG, Order(OrderKind.RESET, "ann", "")).breaker
    late = Report(opened.breaker.epoch, 1, 0, 0, process="p1", sequence=7)
    assert not store.apply("payments", CONFIG, late).accepted
    now = Report(closed.epoch, 1, 0, 0, process="p1", sequence=7)
    assert store.apply("payments", CONFIG, now).accepted


def test_an_override_keeps_actor_reason_and_end(store):
    outcome = store.apply("payments", CONFIG, Order(OrderKind.FORCE_OPEN, "Änn: 1;2", "moving; at 5:00", 900))
    override = outcome.breaker.override
    assert (override.kind, override.actor) == (OverrideKind.FORCED_OPEN, "Änn: 1;2")
    assert override.reason == "moving; at 5:00"
    assert override.until == outcome.now + 900
    assert store.apply("payments", None, Look()).breaker == outcome.breaker


def test_the_settings_last_used_are_kept_for_those_who_only_look(store):
    config = BreakerConfig(failure_threshold=2, timeout=None)
    store.apply("payments", config, Report(0, 0, 1, 1))
    assert store.apply("payments", None, Look()).config == config
    assert store.apply("payments", None, Report(0, 0, 1, 1)).breaker.state is State.OPEN


def test_of_fifty_who_ask_at_once_exactly_one_gets_the_probe(store):
    trip(store)
    time.sleep(0.16)
    granted = []
    start = threading.Barrier(50)

    def ask(number):
        start.wait()
        if store.apply("payments", CONFIG, AskProbe(f"t{number}")).accepted:
            granted.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1


def test_fifty_failures_at_once_open_it_once(store):
    start = threading.Barrier(50)

    def fail():
        start.wait()
        store.apply("payments", CONFIG, Report(0, 0, 1, 1))

    threads = [threading.Thread(target=fail) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [told.to_state for told in store.transitions("payments")] == [State.OPEN]


def test_the_history_of_a_breaker_is_bounded(store):
    for _ in range(300):
        store.apply("payments", CONFIG, Order(OrderKind.RESET, "ann", ""))
    assert len(store.transitions("payments")) == 256


def test_keys_share_one_slot_and_do_not_stay_for_ever(redis_url):
    store = RedisStore.from_url(redis_url)
    trip(store)
    store.apply("payments", CONFIG, Report(1, 1, 0, 0, process="p1", sequence=1))
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        keys = sorted(key for key in client.keys("regrow:*") if key != NAMES_KEY)
        assert all(key.startswith("regrow:{breaker:payments}:") for key in keys)
        assert all(client.ttl(key) > 0 for key in keys)
        store.apply("payments", CONFIG, Order(OrderKind.FORCE_OPEN, "ann", ""))
        assert client.ttl(state_key("payments")) == -1, "an order without an end is not forgotten"


def test_epochs_go_on_after_the_state_is_gone(redis_url):
    store = RedisStore.from_url(redis_url)
    epoch = trip(store).breaker.epoch
    with redis.Redis.from_url(redis_url) as client:
        client.delete(state_key("payments"))
        assert client.exists(transitions_key("payments"))
    assert store.apply("payments", CONFIG, AskProbe("a")).breaker.epoch > epoch


def test_a_server_that_forgot_the_script_is_given_it_again(redis_url):
    store = RedisStore.from_url(redis_url)
    trip(store)
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    assert store.apply("payments", CONFIG, Look()).breaker.state is State.OPEN


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://user:s3cret@127.0.0.1:1/0"])
def test_every_way_to_an_absent_redis_is_the_same_error_and_no_secret_is_in_it(url):
    store = RedisStore.from_url(url)
    steps = [
        lambda: store.apply("payments", CONFIG, Look()),
        store.names,
        lambda: store.transitions("payments"),
        lambda: store.forget("payments"),
    ]
    for step in steps:
        with pytest.raises(StoreUnavailableError) as caught:
            step()
        assert "s3cret" not in str(caught.value)


def test_after_a_clock_jumped_back_looking_on_does_not_put_the_recovery_off():
    store = RedisStore(fakeredis.FakeRedis())
    with time_machine.travel(1_800_003_600.5, tick=False) as clock:
        trip(store)
        clock.move_to(1_800_000_000.5)
        for _ in range(4):
            assert store.apply("payments", CONFIG, Look()).breaker.state is State.OPEN
            clock.shift(0.04)
        assert store.apply("payments", CONFIG, AskProbe("a")).accepted


# The rules in Python and the rules in Lua -------------------------------------------------------------

_small = st.integers(0, 6)
_configs = st.builds(
    BreakerConfig,
    failure_threshold=st.integers(1, 6),
    recovery_timeout=st.sampled_from([0.5, 2.0, 7.25]),
    success_threshold=st.integers(1, 3),
    window_size=st.integers(1, 30),
    minimum_requests=st.integers(1, 12),
    failure_rate=st.sampled_from([0.1, 1 / 3, 0.5, 1.0]),
    half_open_max_calls=st.integers(1, 3),
    window_seconds=st.sampled_from([1.0, 10.0, 60.0]),
    slow_call_rate=st.sampled_from([0.1, 1 / 3, 1.0]),
)


class Differ:
    """The same events to both stores, at the same times; the answers must be the same to the last field."""

    def __init__(self, config, seed):
        self.config = config
        self.chance = random.Random(seed)
        self.now = 1_800_000_000_000
        self.clock = time_machine.travel(self.now / 1000, tick=False)
        self.traveller = self.clock.start()
        self.ours = MemoryStore(clock=lambda: self.now)
        self.theirs = RedisStore(fakeredis.FakeRedis())
        self.epoch = 0
        self.tokens = ["none"]
        self.by_hand = self.chance.choice([[], ["order", "restore"]])
        self.hosts = self.chance.choice([[""], ["", "a"], ["a", "b", "c"], ["", *"abcd"]])

    def event(self):  # noqa: PLR0911 - one return an event
        pick = self.chance.random
        match self.chance.choice(
            ["report"] * 6 + ["ask"] * 4 + ["settle"] * 4 + ["renew", "look"] + self.by_hand
        ):
            case "report":
                failures = self.chance.randint(0, 4)
                epoch = self.epoch if pick() < 0.9 else self.epoch - 1
                sequence = self.chance.randint(1, 10**6) if pick() < 0.8 else 1
                successes = self.chance.choice([0, 0, 1, 5])
                return Report(
                    max(0, epoch),
                    successes,
                    failures,
                    self.chance.randint(0, failures),
                    "p1",
                    sequence,
                    slow=self.chance.choice([0, 0, 1, successes + failures]),
                )
            case "ask":
                self.tokens.append(f"t{len(self.tokens)}")
                return AskProbe(self.tokens[-1])
            case "settle":
                results = [ProbeResult.SUCCESS] * 4 + [
                    ProbeResult.FAILURE,
                    ProbeResult.SLOW,
                    ProbeResult.RELEASE,
                ]
                return SettleProbe(
                    self.chance.choice([*self.tokens[-2:], *self.tokens[-1:] * 3]),
                    self.epoch,
                    self.chance.choice(results),
                )
            case "renew":
                return RenewProbe(
                    self.chance.choice([*self.tokens[-2:], *self.tokens[-1:] * 3]), pick() < 0.5
                )
            case "order":
                expires = self.chance.choice([0, 700])
                kind, reason = self.chance.choice(list(OrderKind)), self.chance.choice(["", "why: not"])
                if pick() < 0.7:
                    return Order(kind, "ann", reason, expires)
                over = self.chance.choice([0, self.fleet_epoch])
                after = self.chance.choice([0, self.fleet_epoch + 50])
                return Order(kind, "ann", reason, expires, over=over, after=after)
            case "restore":
                epoch = max(1, self.epoch + self.chance.randint(-1, 1))
                override = self.chance.choice([None, None, *OverrideKind])
                overridden = override in (OverrideKind.DISABLED, OverrideKind.METRICS_ONLY)
                closed = self.chance.choice([None, None, 0, 700])
                state = State.CLOSED if overridden or closed is not None else State.OPEN
                alone = pick() < 0.3
                override = None if alone else override
                until = self.chance.choice([0, 300])
                return Restore(epoch, state, 400, override, "bob", "r", until, alone, closed)
            case _:
                return Look(pick() < 0.5)

    def run(self, steps):
        """Some steps; the transitions that came of them."""
        host = self.hosts[0]
        try:
            for _ in range(steps):
                self.now += self.chance.choice([0, 0, 1, 100, 100, 400, 600, 2_000, 9_000])
                if self.chance.random() < 0.02:
                    self.now -= 30_000
                self.traveller.move_to(self.now / 1000 + 0.0005)  # well within the millisecond
                if self.chance.random() < 0.4:
                    host = self.chance.choice(self.hosts)
                before = self.ours.apply("x", None, Look()).breaker or Breaker()
                assert (self.theirs.apply("x", None, Look()).breaker or Breaker()) == before
                self.fleet_epoch = before.epoch
                self.epoch = quorum.seen_from(before, host).epoch
                event = self.event()
                ours = self.ours.apply("x", self.config, event, host)
                theirs = self.theirs.apply("x", self.config, event, host)
                assert theirs == ours, (event, host)
            told = self.ours.transitions("x")
            assert self.theirs.transitions("x") == told
            return told
        finally:
            self.clock.stop()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_configs, st.integers(0, 2**32))
def test_lua_decides_exactly_as_the_rules_do(config, seed):
    Differ(config, seed).run(60)

"""Breakers seen from outside, and their history in the database."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from regrow import breakers
from regrow.breakers import quorum
from regrow.breakers.history import monitor, past
from regrow.breakers.redis_store import NAMES_KEY, RedisStore, state_key, transitions_key
from regrow.breakers.rules import AskProbe, BreakerConfig, Look, Order, OrderKind, Report
from regrow.database.tables import breaker_transitions
from regrow.errors import SettingsError
from tests.waiting import eventually

DEFAULTS = BreakerConfig()
QUICK = BreakerConfig(recovery_timeout=0.05)


def trip(engine, name="payments", config=DEFAULTS):
    store = RedisStore(engine.redis)
    breaker = store.apply(name, config, Order(OrderKind.RESET, "test", "")).breaker
    return store.apply(name, config, Report(breaker.epoch, 1, 5, 5))


def rows(engine):
    with engine.database.snapshot() as connection:
        return connection.execute(sa.select(breaker_transitions).order_by(breaker_transitions.c.epoch)).all()


class TestSeeing:
    def test_nothing_is_listed_before_anything_was_used(self, engine):
        assert breakers.list_breakers(engine.redis) == []
        assert breakers.show(engine.redis, "payments") is None

    def test_what_is_shown_of_an_open_breaker(self, engine):
        opened = trip(engine)
        (status,) = breakers.list_breakers(engine.redis)
        assert breakers.show(engine.redis, "payments").epoch == status.epoch
        assert (status.name, status.state, status.epoch) == ("payments", "open", opened.breaker.epoch)
        assert 55 < status.retry_after <= 60
        assert status.since.timestamp() == pytest.approx(opened.now / 1000, abs=0.01)
        assert status.config.failure_threshold == 5
        told = status.as_dict()
        assert told["since"].endswith("+00:00")
        assert told["config"]["recovery_timeout"] == 60.0

    def test_open_past_its_time_is_shown_as_half_open(self, engine):
        trip(engine, config=QUICK)
        eventually(lambda: breakers.show(engine.redis, "payments").state == "half_open", 5)
        assert breakers.show(engine.redis, "payments").retry_after == 0

    def test_failures_and_successes_in_the_window_are_shown(self, engine):
        store = RedisStore(engine.redis)
        store.apply("payments", QUICK, Report(0, 6, 2, 2))
        status = breakers.show(engine.redis, "payments")
        assert (status.successes, status.failures, status.run, status.failure_rate) == (6, 2, 2, 0.25)
        assert status.since is None


class TestOrders:
    def test_an_operator_resets_forces_and_disables(self, engine):
        trip(engine)
        assert breakers.order(engine.redis, "payments", "reset", actor="ann").state == "closed"
        status = breakers.order(
            engine.redis, "payments", "force_open", actor="ann", reason="moving", expires_in=60
        )
        assert (status.state, status.override, status.override_reason) == ("open", "forced_open", "moving")
        assert 59 < status.retry_after <= 60
        assert breakers.order(engine.redis, "payments", "disable", actor="bob").override == "disabled"

    def test_a_breaker_that_is_not_there_is_not_made_by_a_slip_of_the_finger(self, engine):
        assert breakers.order(engine.redis, "paymets", "reset", actor="ann") is None
        assert breakers.list_breakers(engine.redis) == []

    def test_an_order_says_who(self, engine):
        trip(engine)
        with pytest.raises(SettingsError, match="actor"):
            breakers.order(engine.redis, "payments", "reset", actor="")


class TestMonitor:
    def test_nothing_to_see(self, engine):
        assert monitor(engine)["breakers"] == 0

    def test_each_transition_is_written_once_with_what_led_to_it(self, each_engine):
        engine = each_engine
        trip(engine)
        found = monitor(engine)
        assert (found["breakers"], found["open"], found["written"]) == (1, 1, 2)
        assert found["not_closed"] == ["payments"]
        assert monitor(engine)["written"] == 0
        reset, opened = rows(engine)
        assert (reset.actor, reset.to_state, reset.reason) == ("test", "closed", "reset")
        assert (opened.breaker, opened.from_state, opened.to_state) == ("payments", "closed", "open")
        assert opened.reason == "5 failures in a row"
        assert opened.details == {
            "previous": reset.epoch,
            "successes": 1,
            "failures": 5,
            "run": 5,
            "failure_rate": 0.8333,
        }
        assert [row.epoch for row in past(engine.database, "payments")] == [opened.epoch, reset.epoch]
        assert past(engine.database, "other") == []

    def test_two_monitors_at_once_write_each_transition_once(self, each_engine):
        engine = each_engine
        for name in ("payments", "mail", "search"):
            trip(engine, name)
        start = threading.Barrier(4)
        found, errors = [], []

        def watch():
            start.wait()
            try:
                found.append(monitor(engine))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=watch) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert sum(summary["written"] for summary in found) == 6
        assert len(rows(engine)) == 6

    def test_an_idle_open_breaker_is_moved_on_and_never_closed(self, engine):
        trip(engine, config=QUICK)
        eventually(lambda: breakers.show(engine.redis, "payments").state == "half_open", 5)
        found = monitor(engine)
        assert (found["moved_on"], found["half_open"], found["written"]) == (1, 1, 3)
        again = monitor(engine)
        assert (again["moved_on"], again["half_open"], again["written"]) == (0, 1, 0)
        assert RedisStore(engine.redis).apply("payments", QUICK, AskProbe("a")).accepted

    def test_a_monitor_that_comes_late_writes_the_whole_story(self, engine):
        for _ in range(20):
            trip(engine)
        assert monitor(engine)["written"] == 40
        for _ in range(3):
            trip(engine)
        found = monitor(engine)
        assert (found["written"], found["gaps"]) == (6, 0)

    def test_a_history_with_a_hole_says_so(self, engine):
        trip(engine)
        monitor(engine)
        for _ in range(2):
            trip(engine)
        first = RedisStore(engine.redis).transitions("payments")[2]
        engine.redis.xdel(transitions_key("payments"), f"{first.epoch}-0")
        found = monitor(engine)
        assert (found["written"], found["gaps"]) == (3, 1)
        assert [bool(row.details.get("gap")) for row in rows(engine)] == [False, False, True, False, False]

    def test_a_name_whose_breaker_is_gone_is_forgotten(self, engine):
        trip(engine)
        engine.redis.delete(state_key("payments"))
        found = monitor(engine)
        assert (found["breakers"], found["forgotten"], found["written"]) == (0, 1, 2)
        assert not engine.redis.exists(NAMES_KEY)


def test_a_hosts_own_changes_are_kept_once_under_its_own_name_and_break_no_chain(engine):
    store = RedisStore(engine.redis)
    quick = BreakerConfig(recovery_timeout=1.5)

    def alone():
        epoch = quorum.seen_from(store.apply("payments", quick, Look(), "bad").breaker, "bad").epoch
        return store.apply("payments", quick, Report(epoch, 0, 5, 5), "bad")

    store.apply("payments", quick, Look(), "good")
    alone()
    assert monitor(engine)["written"] == 1
    eventually(lambda: store.apply("payments", quick, AskProbe("a"), "bad").accepted, 5)
    found = monitor(engine)
    assert (found["written"], found["gaps"], found["not_closed"]) == (1, 0, ["payments@bad"])
    assert monitor(engine)["written"] == 0
    store.apply("payments", quick, Order(OrderKind.RESET, "ann", ""))
    alone()
    found = monitor(engine)
    assert found["written"] >= 2
    assert found["gaps"] == 0
    kept = past(engine.database, "payments@bad")[::-1]
    assert [row.to_state for row in kept][:3] == ["open", "half_open", "open"]
    assert {row.details["reporter"] for row in kept} == {"bad"}
    assert [row.reason for row in past(engine.database, "payments")] == ["reset"]

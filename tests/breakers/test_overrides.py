"""Orders outlive Redis: kept in the database, put back when Redis forgot, never after someone lifted them."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from regrow.breakers import history, show
from regrow.breakers.by_hand import switch
from regrow.breakers.history import monitor, past
from regrow.breakers.overrides import LastOrder, keep, kept_orders, restored_by, told_by
from regrow.breakers.redis_store import NAMES_KEY, RedisStore, state_key
from regrow.breakers.rules import (
    Breaker,
    BreakerConfig,
    Look,
    Order,
    OrderKind,
    Override,
    OverrideKind,
    Report,
    State,
    Transition,
)
from regrow.breakers.service import CircuitBreaker
from regrow.engine import Engine
from tests.waiting import eventually

CONFIG = BreakerConfig()
FORCED = LastOrder(100, OverrideKind.FORCED_OPEN, "ann", "moving", at=100)
NOW = 500


def ordered(engine, kind=OrderKind.FORCE_OPEN, *, expires_ms=0, reason="moving"):
    """An order by someone who has Redis alone."""
    return RedisStore(engine.redis).apply("payments", CONFIG, Order(kind, "ann", reason, expires_ms))


def row(engine):
    with engine.database.snapshot() as connection:
        return kept_orders(connection).get("payments")


def status(engine):
    return show(engine.redis, "payments")


class TestWithRealStores:
    def test_a_flushed_redis_gets_the_override_back_for_the_rest_of_its_time(self, each_engine):
        engine = each_engine
        until = ordered(engine, expires_ms=60_000).breaker.override.until
        assert monitor(engine)["overridden"] == 1
        engine.redis.flushdb()
        assert monitor(engine)["restored"] == 1
        found = status(engine)
        assert (found.state, found.override, found.override_actor) == ("open", "forced_open", "ann")
        assert found.override_reason == "moving"
        assert abs(found.override_until.timestamp() * 1000 - until) < 10_000, "the time it began with goes on"
        newest = past(engine.database, "payments")[0]
        assert (newest.reason, newest.actor, newest.details.get("gap")) == (
            "restored: force_open: moving",
            "ann",
            None,
        )
        assert row(engine).epoch == found.epoch
        again = monitor(engine)
        assert (again["restored"], again["written"], again["overridden"]) == (0, 0, 1)

    def test_a_reset_lifts_it_for_good(self, each_engine):
        engine = each_engine
        ordered(engine)
        monitor(engine)
        ordered(engine, OrderKind.RESET, reason="done")
        monitor(engine)
        assert (row(engine).kind, row(engine).actor, row(engine).reason) == (None, "ann", "done")
        engine.redis.flushdb()
        assert monitor(engine)["restored"] == 0
        assert status(engine) is None

    def test_an_override_that_is_over_is_not_put_back(self, engine):
        ordered(engine, expires_ms=1_000)
        monitor(engine)
        engine.redis.flushdb()
        time.sleep(1.05)
        assert monitor(engine)["restored"] == 0

    def test_the_end_of_its_time_is_written_down_as_such(self, engine):
        ordered(engine, OrderKind.DISABLE, expires_ms=60_000)
        monitor(engine)
        engine.redis.hset(state_key("payments"), "override_until", 1)  # long ago
        monitor(engine)
        assert (row(engine).kind, row(engine).reason) == (None, "disabled expired")

    def test_it_is_put_back_over_what_a_forgetful_redis_did_meanwhile(self, engine):
        ordered(engine, OrderKind.METRICS_ONLY)
        monitor(engine)
        engine.redis.flushdb()
        RedisStore(engine.redis).apply("payments", CONFIG, Report(0, 0, 5, 5))
        assert status(engine).state == "open"
        assert monitor(engine)["restored"] == 1
        assert (status(engine).state, status(engine).override) == ("closed", "metrics_only")

    def test_an_evicted_state_gets_it_back_although_the_history_is_still_there(self, engine):
        ordered(engine)
        monitor(engine)
        engine.redis.delete(state_key("payments"))
        assert monitor(engine)["restored"] == 1
        assert status(engine).override == "forced_open"

    def test_an_older_copy_of_redis_does_not_bring_back_what_was_lifted(self, engine):
        ordered(engine)
        monitor(engine)
        older = (
            engine.redis.dump(state_key("payments")),
            engine.redis.dump("regrow:{breaker:payments}:transitions"),
        )
        ordered(engine, OrderKind.RESET, reason="done")
        monitor(engine)
        engine.redis.flushdb()
        engine.redis.restore(state_key("payments"), 0, older[0])
        engine.redis.restore("regrow:{breaker:payments}:transitions", 0, older[1])
        engine.redis.sadd(NAMES_KEY, "payments")
        assert status(engine).override == "forced_open"
        monitor(engine)
        assert (status(engine).state, status(engine).override) == ("closed", None)

    def test_a_process_that_knows_of_the_reset_is_believed_though_nobody_wrote_it_down(
        self, engine, redis_url, make_reporter
    ):
        breaker = CircuitBreaker("payments", reporter=make_reporter(redis_url))
        breaker.force_open(actor="ann", reason="moving")
        monitor(engine)
        breaker.reset(actor="bob", reason="done")
        epoch = breaker.epoch
        breaker.call(int)
        eventually(lambda: status(engine).successes == 1, 5)
        engine.redis.flushdb()
        eventually(lambda: (seen := status(engine)) and seen.epoch == epoch, 10)
        assert monitor(engine)["restored"] == 0
        assert row(engine).kind is None
        engine.redis.flushdb()
        monitor(engine)
        assert (seen := status(engine)) is None or seen.override is None

    def test_a_lift_between_the_look_and_the_restoring_wins(self, engine, monkeypatch):
        ordered(engine)
        monitor(engine)
        engine.redis.flushdb()
        decide = history.restored_by

        def late(*arguments):
            command = decide(*arguments)
            ordered(engine, OrderKind.RESET, reason="bob was faster")
            return command

        monkeypatch.setattr(history, "restored_by", late)
        assert monitor(engine)["restored"] == 0
        assert status(engine).override is None
        monkeypatch.undo()
        monitor(engine)
        assert (status(engine).override, row(engine).kind) == (None, None)

    def test_a_monitor_that_dies_after_any_step_leaves_no_harm_to_the_next(self, engine, monkeypatch):
        class Died(Exception):
            pass

        def die(*_arguments, **_named):
            raise Died

        ordered(engine)
        with monkeypatch.context() as broken:  # seen, not yet written
            broken.setattr(history, "keep", die)
            with pytest.raises(Died):
                monitor(engine)
        assert past(engine.database) == [], "both or neither"
        monitor(engine)
        engine.redis.flushdb()
        with monkeypatch.context() as broken:  # put back, not yet written
            broken.setattr(history, "_write", die)
            with pytest.raises(Died):
                monitor(engine)
        restored = status(engine)
        assert restored.override == "forced_open"
        found = monitor(engine)
        assert (found["restored"], found["written"]) == (0, 1)
        assert row(engine).epoch == restored.epoch == status(engine).epoch

    def test_the_command_line_needs_no_monitor_to_make_it_durable(self, engine):
        RedisStore(engine.redis).apply("payments", CONFIG, Report(0, 1, 0, 0))
        switch(engine, "payments", "disable", actor="ann", reason="load test", expires_in=600)
        engine.redis.flushdb()
        monitor(engine)
        assert status(engine).override == "disabled"
        assert switch(engine, "payments", "reset", actor="bob", reason="done").unwritten is None
        engine.redis.flushdb()
        monitor(engine)
        assert status(engine) is None

    def test_the_switch_works_without_a_database(self, make_settings, redis_url):
        away = Engine(make_settings(redis_url, "mysql+pymysql://nobody@127.0.0.1:1/none"))
        RedisStore(away.redis).apply("payments", CONFIG, Report(0, 1, 0, 0))
        switched = switch(away, "payments", "force_open", actor="ann", reason="moving")
        assert switched.status.override == "forced_open"
        assert switched.unwritten is not None
        away.close()

    def test_a_row_gives_way_only_to_a_higher_epoch(self, each_engine):
        lifted = LastOrder(200, None, "bob", "done", at=200)

        def told(order):
            return each_engine.database.run(lambda connection: keep(connection, "payments", order))

        assert told(FORCED)
        assert told(lifted)
        assert not told(FORCED)
        assert not told(lifted)
        assert row(each_engine) == lifted


def moved(epoch, previous, to=State.OPEN, **more):
    return Transition(
        epoch, previous, State.CLOSED, to, more.pop("reason", "5 failures in a row"), epoch, **more
    )


FORCED_OPEN = Override(OverrideKind.FORCED_OPEN, "ann", "moving")


class TestTheRules:
    """What Redis tells, beside what the table has: what is new in it, and what it lacks."""

    @pytest.mark.parametrize(
        ("breaker", "stream", "restores"),
        [
            pytest.param(None, [], True, id="all is gone"),
            pytest.param(Breaker(epoch=0), [], True, id="begun anew, nothing happened yet"),
            pytest.param(
                Breaker(State.OPEN, 300, since=300), [moved(300, 0)], True, id="begun anew, and opened since"
            ),
            pytest.param(
                Breaker(State.OPEN, 90, since=90), [moved(90, 0)], True, id="an older copy, or a clock behind"
            ),
            pytest.param(
                Breaker(epoch=101), [moved(100, 0, actor="ann", override="forced_open")], True, id="evicted"
            ),
            pytest.param(Breaker(State.OPEN, 100, override=FORCED_OPEN), [], False, id="it stands"),
            pytest.param(
                Breaker(State.CLOSED, 300, since=300),
                [moved(300, 100, State.CLOSED, actor="bob", reason="reset")],
                False,
                id="reset",
            ),
            pytest.param(
                Breaker(State.HALF_OPEN, 300, since=300), [moved(300, 100)], False, id="its time was over"
            ),
            pytest.param(Breaker(State.CLOSED, 300, since=300), [], False, id="told by a process, unseen"),
        ],
    )
    def test_what_is_put_back(self, breaker, stream, restores):
        new = told_by(breaker, stream, FORCED)
        command = None if new else restored_by(breaker, stream, FORCED, NOW)
        assert (command is not None) == restores
        if restores:
            assert (command.kind, command.actor, command.reason) == (OrderKind.FORCE_OPEN, "ann", "moving")
            assert (command.over, command.after) == (breaker.epoch if breaker else 0, 100)

    def test_an_order_put_back_is_newer_than_it_was_whatever_the_clock_says(self, store):
        outcome = store.apply(
            "payments", CONFIG, Order(OrderKind.DISABLE, "ann", "", 0, over=0, after=10**15)
        )
        assert outcome.accepted
        assert outcome.breaker.epoch == 10**15 + 1
        (told,) = outcome.transitions
        assert (told.previous, told.reason) == (10**15, "restored: disable")

    def test_an_order_is_not_put_back_over_a_state_that_is_newer(self, store):
        reset = store.apply("payments", CONFIG, Order(OrderKind.RESET, "bob", "")).breaker
        late = store.apply("payments", CONFIG, Order(OrderKind.DISABLE, "ann", "", 0, over=0, after=5))
        assert not late.accepted
        assert store.apply("payments", CONFIG, Look()).breaker == reset

    def test_a_reset_alone_is_nothing_to_keep(self):
        stream = [moved(300, 0, State.CLOSED, actor="bob", reason="reset")]
        assert told_by(Breaker(State.CLOSED, 300, since=300), stream, None) is None


def test_the_columns_take_what_an_order_may_carry(each_engine):
    order = LastOrder(2**53 - 1, OverrideKind.DISABLED, "ä" * 255, "ß" * 1000, at=1_700_000_000_123, until=1)
    each_engine.database.run(lambda connection: keep(connection, "n" * 190, order))
    with each_engine.database.snapshot() as connection:
        assert kept_orders(connection)["n" * 190] == order
        assert connection.execute(sa.text("SELECT COUNT(*) FROM breaker_overrides")).scalar_one() == 1

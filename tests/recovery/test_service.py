"""Recovery on real breakers and checks: what begins it, in which order, what ends it, and what outages do."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from regrow import breakers
from regrow.breakers.history import monitor, past
from regrow.database.tables import audit, check_results
from regrow.engine import Engine
from regrow.errors import RecoveryRefusedError, ServiceNotFoundError
from regrow.health import maintenance
from regrow.health.rules import Result
from regrow.health.service import run_due
from regrow.health.store import KeptResults
from regrow.health.windows import Scope
from regrow.recovery import service
from regrow.recovery.model import ACTOR
from regrow.recovery.store import Recoveries
from tasks.recovery import probe_open_services, recover_services
from tests.recovery.conftest import state, trip


def check(name: str, url: str, more: str = "") -> str:
    return f'[health.checks.{name}]\nkind = "http"\nurl = "{url}"\ninterval = 10\nfailures = 1\nsuccesses = 1\n{more}\n'


def handler(name: str, *argv: str, more: str = "") -> str:
    told = ", ".join(f"'{part}'" for part in argv)
    return f'[recovery.services.{name}]\nkind = "command"\nargv = [{told}]\nsettle = 0\n{more}\n'


@pytest.fixture
def failing(recovering, backend):
    """An engine whose service ``bank`` is down behind an open breaker, with a handler that does not help."""
    backend.well = False
    engine = recovering(check("bank", backend.url) + handler("bank", "false"))
    trip(engine, "bank")
    return engine


def tick(engine):
    """One scheduled look, and the attempts that it sends."""
    summary = service.start_recoveries(engine)
    return summary, [service.attempt(engine, name) for name in engine.sender.taken()]


def test_without_a_declared_service_a_tick_opens_no_store_and_is_silent(make_settings, monkeypatch):
    engine = Engine(make_settings())
    monkeypatch.setattr("tasks.recovery.get_engine", lambda: engine)
    recover_services()
    probe_open_services()
    assert not {"database", "redis", "patient_redis"} & set(engine.__dict__)


class TestFromOpeningToEnd:
    def test_nothing_is_done_while_all_is_well(self, recovering, backend):
        engine = recovering(check("bank", backend.url) + handler("bank", "false"))
        summary, made = tick(engine)
        assert (summary["down"], summary["changed"], made) == (0, [], [])
        assert [one.state for one in service.status(engine)] == ["unknown"]  # its check never ran

    def test_three_attempts_with_growing_pauses_then_a_person_is_called(self, failing, clock):
        told = []
        with capture_logs() as logs:
            for seconds in (0, 5, 54, 1, 60, 59, 1, 600):
                clock.on(seconds)
                _, made = tick(failing)
                told.append([(one["attempt"], one["outcome"]) for one in made])
        assert told == [[(1, "failed")], [], [], [(2, "failed")], [], [], [(3, "failed")], []]
        events = [line["event"] for line in logs if line["event"].startswith("recovery.")]
        assert events == [
            "recovery.down",
            *["recovery.started", "recovery.failed"] * 3,
            "recovery.locked",
        ]
        (locked,) = [line for line in logs if line["event"] == "recovery.locked"]
        assert (locked["service"], locked["severity"], locked["log_level"]) == ("bank", "high", "error")
        (event,) = service.events(failing, clock.now - timedelta(hours=1))
        assert (event.event, event.subject, event.severity) == ("locked", "bank", "high")
        (status,) = service.status(failing)
        assert (status.state, status.attempts, status.max_attempts) == ("locked", 3, 3)
        assert [row.message.split(":")[0] for row in service.history(failing, "bank")] == ["exit code 1"] * 3

    def test_a_handler_that_helps_closes_the_breaker_and_tells_how_long_it_took(
        self, recovering, backend, clock
    ):
        backend.well = False
        engine = recovering(
            check("bank", backend.url)
            + handler("bank", sys.executable, "-c", "pass", more='test = "other"\nbreaker = "bank"')
            + check("other", backend.url, "enabled = false")
        )
        epoch = trip(engine, "bank")
        _, (made,) = tick(engine)
        assert made["outcome"] == "failed"
        backend.well = True
        clock.on(61)
        _, (made,) = tick(engine)
        assert made["outcome"] == "succeeded"
        assert made["message"].startswith("nothing had to be done: other is healthy")
        assert state(engine, "bank") == "closed"
        row = service.history(engine)[0]
        assert row.opening == f"breaker:bank:{epoch}"
        (event,) = service.events(engine, clock.now - timedelta(hours=1))
        assert (event.event, event.data["by"], event.data["attempts"]) == ("recovered", "its handler", 2)
        assert event.data["seconds"] == pytest.approx((clock.now - row.failed_at).total_seconds(), abs=0.001)

    def test_the_same_opening_told_by_breaker_and_check_is_one(self, failing):
        run_due(failing, force=True)
        for _ in range(3):
            tick(failing)
        assert len(service.history(failing)) == 1

    def test_a_check_that_is_confirmed_unhealthy_begins_it_without_a_breaker(
        self, recovering, backend, clock
    ):
        backend.well = False
        engine = recovering(
            check("shop", backend.url).replace("failures = 1", "failures = 2")
            + handler("shop", "true", more="breaker = ''")
        )
        for expected in ([], ["shop"], []):
            run_due(engine, force=True)
            assert service.start_recoveries(engine)["begun"] == expected or engine.sender.sent
            clock.on(10)
        opening = Recoveries(engine.database).courses()["shop"].opening
        assert opening is not None
        assert opening.startswith("check:shop:")

    def test_a_persons_reset_clears_the_lock(self, failing, clock):
        for _ in range(3):
            tick(failing)
            clock.on(200)
        breakers.order(failing.redis, "bank", "reset", actor="ann", reason="mended")
        tick(failing)
        (status,) = service.status(failing)
        assert (status.attempts, status.locked_at) == (0, None)
        trip(failing, "bank")
        _, (made,) = tick(failing)
        assert made["attempt"] == 1

    def test_what_a_person_holds_is_neither_tried_nor_closed(self, failing):
        breakers.order(failing.redis, "bank", "force_open", actor="ann", reason="moving")
        _, made = tick(failing)
        assert made == []
        assert service.probe_open_services(failing)["open"] == 0
        assert service.status(failing)[0].state == "held"

    def test_what_a_person_took_in_hand_since_it_was_sent_is_not_tried(self, failing):
        service.start_recoveries(failing)
        breakers.order(failing.redis, "bank", "force_open", actor="ann", reason="moving")
        assert [service.attempt(failing, name)["outcome"] for name in failing.sender.taken()] == [None]

    def test_an_emptied_redis_is_no_news_of_what_was_down(self, recovering, backend, clock):
        backend.well = False
        check_of_tests = check("probe", backend.url, "enabled = false")
        engine = recovering(check_of_tests + handler("bank", "false", more='test = "probe"'))
        trip(engine, "bank")
        tick(engine)
        engine.redis.flushdb()
        clock.on(61)
        assert tick(engine)[1] == []
        assert service.events(engine, clock.now - timedelta(hours=1)) == []
        assert Recoveries(engine.database).courses()["bank"].opening is not None
        (status,) = service.status(engine)
        assert (status.state, status.why) == ("waiting", "nothing is known of it now")

    @pytest.mark.parametrize(
        ("kind", "scope"),
        [
            ('kind = "database"', Scope(everything=True)),
            ('kind = "breaker"\ntest = "probe"', Scope(everything=True)),
            ('kind = "breaker"\ntest = "probe"', Scope(checks=("probe",))),
        ],
    )
    def test_a_maintenance_window_covers_a_service_without_a_check(
        self, recovering, backend, clock, kind, scope
    ):
        backend.well = False
        probe = check("probe", backend.url, "enabled = false")
        engine = recovering(probe + f"[recovery.services.bank]\n{kind}\n")
        trip(engine, "bank")
        until = clock.now + timedelta(hours=1)
        maintenance.add(engine, scope, clock.now, until, actor="ann", reason="moving")
        assert tick(engine)[1] == []
        assert service.status(engine)[0].state == "held"
        clock.on(3600)
        assert len(tick(engine)[1]) == 1

    def test_a_precondition_that_is_not_met_spends_no_attempt(self, recovering, backend, clock):
        backend.well = False
        engine = recovering(
            check("bank", backend.url)
            + check("network", backend.url)
            + handler("bank", "true", more='precondition = "network"')
        )
        trip(engine, "bank")
        _, (made,) = tick(engine)
        assert made["outcome"] == "skipped"
        assert service.status(engine)[0].attempts == 0

    def test_a_dry_run_writes_down_what_it_would_do_and_does_nothing(self, recovering, backend, tmp_path):
        backend.well = False
        mark = tmp_path / "mark"
        engine = recovering(
            check("bank", backend.url) + handler("bank", "touch", str(mark), more="dry_run = true")
        )
        trip(engine, "bank")
        _, (made,) = tick(engine)
        assert (made["outcome"], made["message"]) == ("dry_run", "would run touch with 1 argument")
        assert not mark.exists()
        backend.well = True
        assert service.probe_open_services(engine)["tested"] == 0
        assert (tick(engine)[1], state(engine, "bank")) == ([], "open")


class TestProbes:
    def test_a_test_that_passes_closes_the_breaker_though_the_handler_is_locked(
        self, failing, backend, clock
    ):
        for _ in range(3):
            tick(failing)
            clock.on(200)
        assert service.status(failing)[0].state == "locked"
        assert service.probe_open_services(failing) == {
            "open": 1, "tested": 1, "recovered": [], "hanging": 0,
        }  # fmt: skip
        failing.redis.delete("regrow:{recovery}:test:bank")
        backend.well = True
        assert service.probe_open_services(failing)["recovered"] == ["bank"]
        assert state(failing, "bank") == "closed"
        row = service.history(failing, limit=1)[0]
        assert (row.kind, row.trigger, row.outcome, row.attempt) == ("test", "test", "succeeded", 0)
        assert row.failed_at is not None
        course = Recoveries(failing.database).courses()["bank"]
        assert (course.opening, course.locked_at) == (None, None)

    def test_who_closed_it_is_in_the_breakers_history_and_no_restored_order(self, failing, backend):
        backend.well = True
        service.probe_open_services(failing)
        monitor(failing)
        change = past(failing.database, "bank")[0]
        assert (change.actor, change.to_state) == (ACTOR, "closed")
        assert change.reason.startswith("reset: test passed: ")

    def test_each_service_is_tested_once_in_its_interval_whoever_looks(self, failing):
        assert [service.probe_open_services(failing)["tested"] for _ in range(3)] == [1, 0, 0]
        left = failing.redis.pttl("regrow:{recovery}:test:bank")
        assert 3_000 < left <= 4_000

    def test_a_reset_that_did_not_hold_makes_tests_rarer(self, failing, backend):
        backend.well = True
        waits = []
        for _ in range(5):
            assert service.probe_open_services(failing)["recovered"] == ["bank"]
            waits.append(round(failing.redis.pttl("regrow:{recovery}:test:bank") / 1000))
            failing.redis.delete("regrow:{recovery}:test:bank")
            trip(failing, "bank")
        assert waits == [4, 8, 16, 32, 48]

    def test_while_the_database_is_away_services_come_back_all_the_same(self, failing, backend, tmp_path):
        backend.well = True
        failing.database.close()
        (tmp_path / "regrow.sqlite3").rename(tmp_path / "away")
        with capture_logs() as logs:
            assert service.probe_open_services(failing)["recovered"] == ["bank"]
        assert state(failing, "bank") == "closed"
        assert "recovery.unrecorded" in [line["event"] for line in logs]

    def test_a_database_is_tested_without_a_check(self, recovering):
        engine = recovering('[recovery.services.store]\nkind = "database"\n')
        trip(engine, "store")
        assert service.probe_open_services(engine)["recovered"] == ["store"]


class TestOrderAndBudget:
    def test_parents_come_first_and_children_wait(self, recovering, backend, clock):
        backend.well = False
        engine = recovering(
            check("db", backend.url)
            + check("shop", backend.url, 'depends_on = ["db"]')
            + handler("db", "false")
            + handler("shop", "false")
        )
        trip(engine, "shop")
        trip(engine, "db")
        summary, made = tick(engine)
        assert (summary["down"], [one["service"] for one in made]) == (2, ["db"])
        by_name = {one.name: one for one in service.status(engine)}
        assert (by_name["shop"].state, by_name["shop"].why) == ("waiting", "db comes first")
        breakers.order(engine.redis, "db", "reset", actor="ann")
        assert [one["service"] for one in tick(engine)[1]] == ["shop"]

    def test_a_storm_of_fifty_stays_inside_the_budget_and_is_told_once(self, recovering, backend, clock):
        backend.well = False
        names = [f"s{number:02}" for number in range(50)]
        toml = check("all", backend.url, "enabled = false") + "".join(
            handler(name, "false", more='test = "all"') for name in names
        )
        engine = recovering(
            toml,
            REGROW_RECOVERY__PER_MINUTE="6",
            REGROW_RECOVERY__CONCURRENCY="3",
            REGROW_CELERY__CONCURRENCY="4",
        )
        for name in names:
            trip(engine, name)
        begun = []
        with capture_logs() as logs:
            for _ in range(24):
                _, made = tick(engine)
                begun += [clock.now for one in made if one["outcome"] is not None]
                clock.on(5)
        assert len(begun) == 12
        for at in begun:
            assert sum(at - timedelta(seconds=60) < other <= at for other in begun) <= 6
        assert [line["event"] for line in logs].count("recovery.storm") == 1
        assert [e.event for e in service.events(engine, clock.now - timedelta(hours=1))].count("storm") == 1


class TestLostWorkers:
    def test_the_attempt_of_a_worker_that_died_is_lost_and_the_next_one_waits(
        self, failing, clock, monkeypatch
    ):
        class Killed(BaseException):
            pass

        def die(*_args, **_options):
            raise Killed

        service.start_recoveries(failing)
        failing.sender.taken()
        monkeypatch.setattr("regrow.recovery.attempting._end", lambda *_: None)  # SIGKILL: no last words
        monkeypatch.setattr("regrow.recovery.attempting._carry_out", die)
        with pytest.raises(Killed):
            service.attempt(failing, "bank")
        monkeypatch.undo()
        assert service.attempt(failing, "bank")["outcome"] is None
        clock.on(20)
        assert tick(failing)[1] == []
        assert service.history(failing)[0].outcome is None
        clock.on(30)
        with capture_logs() as logs:
            summary, made = tick(failing)
        assert (summary["lost"], made) == (["bank"], [])
        assert "recovery.lost" in [line["event"] for line in logs]
        assert service.history(failing)[0].outcome == "lost"
        clock.on(61)
        assert [one["attempt"] for one in tick(failing)[1]] == [2]

    def test_a_worker_that_goes_down_in_order_says_so(self, failing, monkeypatch):
        def cancelled(*_args):
            raise SystemExit(0)

        service.start_recoveries(failing)
        monkeypatch.setattr("regrow.recovery.attempting._carry_out", cancelled)
        with pytest.raises(SystemExit):
            service.attempt(failing, "bank")
        row = service.history(failing)[0]
        assert (row.outcome, row.message) == ("lost", "its worker went down")

    def test_a_defect_of_a_handler_is_a_failed_attempt(self, failing, monkeypatch):
        def broken(*_args):
            raise ZeroDivisionError

        monkeypatch.setattr("regrow.recovery.handlers.act", broken)
        _, (made,) = tick(failing)
        assert (made["outcome"], made["message"]) == ("failed", "the handler broke: ZeroDivisionError")


class TestByHand:
    def test_a_trigger_runs_at_once_in_spite_of_the_lock_and_is_audited(self, failing, clock):
        for _ in range(3):
            tick(failing)
            clock.on(200)
        assert service.trigger(failing, "bank", actor="ann", reason="new cable")
        assert failing.sender.taken() == ["bank"]
        made = service.attempt(failing, "bank")
        assert (made["outcome"], made["attempt"]) == ("failed", 0)
        row = service.history(failing, limit=1)[0]
        assert (row.trigger, row.actor, row.reason) == ("hand", "ann", "new cable")
        with failing.database.snapshot() as connection:
            acts = connection.execute(sa.select(audit.c.actor, audit.c.act, audit.c.subject)).all()
        assert acts == [("ann", "recovery.trigger", "bank")]
        assert service.status(failing)[0].state == "locked"

    def test_a_trigger_that_the_broker_did_not_take_is_seen_by_the_next_look(self, failing, monkeypatch):
        def away(*_args, **_options):
            raise ConnectionError("no broker")

        with monkeypatch.context() as patch:
            patch.setattr(failing.sender, "send", away)
            assert not service.trigger(failing, "bank", actor="ann", reason="")
        _, (made,) = tick(failing)
        assert made["attempt"] == 0

    def test_unlocking_begins_anew(self, failing, clock):
        for _ in range(3):
            tick(failing)
            clock.on(200)
        assert service.unlock(failing, "bank", actor="ann", reason="mended")
        assert not service.unlock(failing, "bank", actor="ann", reason="again")
        _, (made,) = tick(failing)
        assert made["attempt"] == 1

    def test_nothing_is_triggered_twice_at_once_nor_for_whom_nothing_is_declared(self, failing, monkeypatch):
        with pytest.raises(ServiceNotFoundError, match="there are: bank"):
            service.trigger(failing, "bnak", actor="ann", reason="")
        service.start_recoveries(failing)

        def meanwhile(*_args):
            with pytest.raises(RecoveryRefusedError, match="an attempt is under way"):
                service.trigger(failing, "bank", actor="ann", reason="")
            raise ZeroDivisionError

        monkeypatch.setattr("regrow.recovery.handlers.act", meanwhile)
        assert service.attempt(failing, "bank")["outcome"] == "failed"


class TestEarlyWarnings:
    @pytest.mark.parametrize(
        "kind",
        ["kind = 'http'\nurl = 'http://127.0.0.1:1'\nslow = 0.5", "kind = 'mysql'\ntimeout = 0.5"],
        ids=["http", "mysql"],
    )
    def test_a_latency_that_will_be_too_slow_is_told_once(self, recovering, clock, kind):
        engine = recovering(f"[health.checks.shop]\n{kind}\n")
        results = [
            Result("shop", "healthy", "200", 0.1 + 0.01 * n, clock.now - timedelta(minutes=20 - n), 60.0, {})
            for n in range(20)
        ]
        KeptResults(engine.database).write(results)
        assert service.watch_trends(engine)["warnings"] == ["latency:shop"]
        assert service.watch_trends(engine)["warnings"] == []
        (event,) = service.events(engine, clock.now)
        assert (event.event, event.severity) == ("early_warning", "low")
        assert event.message.startswith("the latency of shop rises: 0.29 s now, 0.5 s in about 21 min")
        with engine.database.transaction() as connection:
            connection.execute(sa.delete(check_results))

    def test_a_failure_rate_that_will_open_its_breaker_is_told_before_it_does(self, recovering, clock):
        from regrow.breakers.redis_store import RedisStore
        from regrow.breakers.rules import BreakerConfig, Order, OrderKind, Report

        engine = recovering("")
        store, config = RedisStore(engine.redis), BreakerConfig(failure_rate=0.5, window_size=100)
        warned = []
        for failed in range(2, 40, 2):
            store.apply("bank", config, Order(OrderKind.RESET, "test", ""))
            epoch = store.apply("bank", config, Report(0, 0, 0, 0)).breaker.epoch
            store.apply("bank", config, Report(epoch, 100 - failed, failed, 1))
            warned += service.watch_trends(engine)["warnings"]
            clock.on(60)
        assert warned == ["failure rate:bank"]


def test_old_attempts_and_events_are_deleted(failing, clock):
    tick(failing)
    assert service.prune(failing) == {"recoveries": 0, "recovery_events": 0}
    clock.on(91 * 86_400)
    assert service.prune(failing)["recoveries"] == 1

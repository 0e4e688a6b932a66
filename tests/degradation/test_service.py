"""The level decided, ordered, written down: on a real Valkey, SQLite and MariaDB."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from regrow import counters
from regrow.database.tables import audit, degradation_changes, degradation_orders
from regrow.degradation import service
from regrow.degradation.store import CHANGES, STATE, LevelStore
from regrow.engine import Engine
from regrow.errors import SettingsError, StoreUnavailableError
from regrow.health.rules import Declared, Result, Standing, view
from tests.degradation.conftest import Check, checks

TEN = "abcdefghij"


def rows(engine, table=degradation_changes):
    with engine.database.snapshot() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def path(engine):
    return [(row["old_level"], row["new_level"]) for row in rows(engine)]


def test_the_level_follows_the_score_and_every_change_is_written_once(each_at_once):
    assert service.evaluate(each_at_once, checks())["level"] == "normal"
    assert service.evaluate(each_at_once, checks("a"))["level"] == "minor"
    assert service.evaluate(each_at_once, checks(*"abcdefg"))["level"] == "critical"
    summary = service.evaluate(each_at_once, checks())
    assert (summary["level"], summary["changed"], summary["written"]) == ("normal", True, 1)
    assert path(each_at_once) == [
        (None, "normal"),
        ("normal", "minor"),
        ("minor", "critical"),
        ("critical", "normal"),
    ]
    found = service.status(each_at_once)
    assert (found.level, found.known, found.score.low) == ("normal", True, 100.0)
    assert (
        counters.read(each_at_once)["degradation_events_total"][(("from", "minor"), ("to", "critical"))] == 1
    )


def test_a_change_is_told_to_the_log(at_once):
    with capture_logs() as told:
        service.evaluate(at_once, checks())
        service.evaluate(at_once, checks("a", "b", "c"))
    [change] = [record for record in told if record["event"] == "degradation.changed"]
    assert (change["old_level"], change["new_level"], change["log_level"]) == (
        "normal",
        "moderate",
        "warning",
    )
    assert change["reason"] == "score 70 of 100: a unhealthy, b unhealthy, c unhealthy"


def test_weights_say_what_a_check_costs(make_settings, redis_url, sqlite_url):
    engine = Engine(
        make_settings(
            redis_url,
            sqlite_url,
            REGROW_DEGRADATION__WEIGHTS__DISK="0",
            REGROW_DEGRADATION__WEIGHTS__CPU="4",
        )
    )
    engine.database.upgrade()
    told = [
        Check("disk", "unhealthy"),
        Check("redis", required=True),
        Check("cpu", "degraded"),
        Check("broker"),
    ]
    assert service.evaluate(engine, told)["score_low"] == 80.0
    engine.close()


def test_what_is_under_maintenance_costs_nothing(at_once):
    told = [*checks(), Check("move", "unhealthy", required=True, maintenance="sunday")]
    assert service.evaluate(at_once, told)["score_low"] == 100.0


def test_one_probe_that_failed_and_is_not_confirmed_costs_nothing_and_flapping_is_half_a_failure(at_once):
    declared = Declared("db", "database", 60.0, 5.0, required=True, failures=3)
    now = at_once.clock()
    failed = Result("db", "unhealthy", "away", 0.1, now, 60.0)
    assert service.evaluate(at_once, [view(declared, failed, now, Standing("healthy"))])["level"] == "normal"
    flaps = view(declared, failed, now, Standing("healthy", flapping=True))
    assert service.evaluate(at_once, [flaps])["score_low"] == 50.0
    down = view(declared, failed, now, Standing("unhealthy"))
    assert service.evaluate(at_once, [down])["level"] == "critical"


def test_while_everything_is_under_maintenance_the_level_stays_as_it_was(at_once):
    planned = [replace(check, maintenance="sunday") for check in checks(*TEN)]
    assert service.evaluate(at_once, checks())["level"] == "normal"
    for _ in range(2):
        assert service.evaluate(at_once, planned)["level"] == "normal"
    assert service.status(at_once).known
    service.evaluate(at_once, checks("a", "b", "c"))
    assert service.evaluate(at_once, planned)["level"] == "moderate"
    assert service.evaluate(at_once, [])["level"] == "moderate", "no checks at all: nothing is known"


def test_a_window_over_everything_from_the_first_look_on_vouches_for_nothing(at_once):
    assert service.evaluate(at_once, [Check("a", maintenance="sunday")])["level"] == "minor"


def test_what_a_person_sets_holds_until_it_is_cleared_and_leaves_its_traces(each_at_once):
    service.evaluate(each_at_once, checks())
    service.set_level(each_at_once, "severe", actor="ann", reason="the provider moves house", expires_in=3600)
    assert service.evaluate(each_at_once, checks())["level"] == "severe"
    found = service.status(each_at_once)
    assert (found.ordered, found.actor, found.automatic) == ("severe", "ann", "normal")
    assert found.until - found.since == timedelta(hours=1)
    service.clear(each_at_once, actor="ben", reason="moved")
    assert service.status(each_at_once).level == "normal"
    acts = [(row["act"], row["subject"], row["actor"], row["reason"]) for row in rows(each_at_once, audit)]
    assert acts == [
        ("degradation.set", "severe", "ann", "the provider moves house"),
        ("degradation.clear", "automatic", "ben", "moved"),
    ]
    [order] = rows(each_at_once, degradation_orders)
    assert (order["level"], order["actor"]) == (None, "ben")
    assert [row["actor"] for row in rows(each_at_once)] == [None, "ann", "ben"]


def test_an_order_that_ran_out_is_over_without_anybody(at_once):
    service.evaluate(at_once, checks())
    service.set_level(at_once, "severe", actor="ann", reason="a minute", expires_in=0.001)
    summary = service.evaluate(at_once, checks())
    assert summary["level"] == "normal"
    assert rows(at_once)[-1]["reason"].startswith("the order of ann ran out")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"level": "awful"}, "normal, minor"),
        ({"reason": " "}, "why"),
        ({"actor": ""}, "who"),
        ({"expires_in": 0}, "seconds"),
        ({"expires_in": float("nan")}, "seconds"),
    ],
)
def test_an_order_that_is_none(at_once, given, says):
    with pytest.raises(SettingsError, match=says):
        service.set_level(
            at_once, **{"level": "minor", "actor": "ann", "reason": "so", "expires_in": None, **given}
        )
    assert not rows(at_once, audit)


def test_a_redis_that_forgot_everything_goes_on_where_it_was(at_once):
    service.evaluate(at_once, checks("a", "b", "c"))
    before = service.status(at_once)
    at_once.redis.flushdb()
    assert not service.status(at_once).known
    service.evaluate(at_once, checks("a", "b", "c"))
    after = service.status(at_once)
    assert (after.level, abs(after.since - before.since) < timedelta(milliseconds=2)) == ("moderate", True)
    assert path(at_once) == [(None, "moderate")]


def test_a_standing_order_outlives_redis_and_a_lifted_one_does_not_come_back(each_at_once):
    service.evaluate(each_at_once, checks())
    service.set_level(each_at_once, "critical", actor="ann", reason="hold", expires_in=3600)
    ends = service.status(each_at_once).until
    each_at_once.redis.flushdb()
    service.evaluate(each_at_once, checks())
    assert (service.status(each_at_once).level, service.status(each_at_once).until) == ("critical", ends)
    with_order = each_at_once.redis.dump(STATE)
    service.clear(each_at_once, actor="ann", reason="over")
    each_at_once.redis.restore(STATE, 0, with_order, replace=True)  # a failover to an older copy
    assert service.evaluate(each_at_once, checks())["level"] == "normal"
    assert service.status(each_at_once).ordered is None


def test_a_database_that_is_away_gets_it_all_later(at_once, monkeypatch):
    service.evaluate(at_once, checks())
    with monkeypatch.context() as away:
        for name in ("run", "snapshot"):
            away.setattr(at_once.database, name, _unavailable)
        ordered = service.set_level(at_once, "severe", actor="ann", reason="hold")
        assert ordered.unwritten is not None
        assert service.evaluate(at_once, checks())["not_written"]
        service.clear(at_once, actor="ann", reason="over")
        service.evaluate(at_once, checks("a", "b", "c"))
    service.evaluate(at_once, checks("a", "b", "c"))
    assert path(at_once) == [
        (None, "normal"), ("normal", "severe"), ("severe", "normal"), ("normal", "moderate"),
    ]  # fmt: skip
    [order] = rows(at_once, degradation_orders)
    assert order["level"] is None


def test_an_order_while_redis_is_away_is_written_and_told_later(at_once, make_settings, sqlite_url):
    service.evaluate(at_once, checks())
    cut_off = Engine(make_settings("redis://127.0.0.1:1/0", sqlite_url))
    ordered = service.set_level(cut_off, "minor", actor="ann", reason="hold")
    assert ordered.unheard is not None
    with pytest.raises(StoreUnavailableError):
        service.evaluate(cut_off, checks())
    cut_off.close()
    assert service.status(at_once).level == "normal"
    assert service.evaluate(at_once, checks())["level"] == "minor"


def test_with_both_stores_away_nothing_is_promised(make_settings, monkeypatch):
    engine = Engine(make_settings("redis://127.0.0.1:1/0"))
    monkeypatch.setattr(engine.database, "run", _unavailable)
    with pytest.raises(StoreUnavailableError, match="not done"):
        service.set_level(engine, "minor", actor="ann", reason="hold")


def test_many_ticks_at_once_are_one_course(each_at_once):
    service.evaluate(each_at_once, checks())
    seen = []

    def tick():
        seen.append(service.evaluate(each_at_once, checks("a", "b", "c"))["level"])

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {"moderate"}
    assert path(each_at_once) == [(None, "normal"), ("normal", "moderate")]


def test_hysteresis_goes_on_from_tick_to_tick(engine):
    service.evaluate(engine, checks())
    first = service.evaluate(engine, checks(*TEN))
    assert (first["level"], first["score_low"]) == ("normal", 0.0)
    state, now = LevelStore(engine.redis).look()
    assert all(moment is not None and moment <= now for moment in state.course.since)


def test_what_is_no_state_is_begun_anew(at_once):
    at_once.redis.hset(STATE, mapping={"revision": "7", "state": json.dumps({"level": "fine"})})
    at_once.redis.rpush(CHANGES, "nonsense", json.dumps({"revision": 1}))
    assert not service.status(at_once).known
    assert service.evaluate(at_once, checks())["level"] == "normal"
    assert service.status(at_once).known


def test_the_account_of_time_and_its_pruning(each_at_once):
    began = each_at_once.clock() - timedelta(seconds=1)
    service.evaluate(each_at_once, checks())
    service.evaluate(each_at_once, checks("a", "b", "c"))
    spent = service.time_in_levels(each_at_once, began, each_at_once.clock())
    assert spent["unknown"] > timedelta()
    assert spent["severe"] == timedelta()
    later = each_at_once.clock() + timedelta(days=500)
    each_at_once.clock = lambda: later
    assert service.prune(each_at_once) == 1
    assert path(each_at_once) == [("normal", "moderate")]


def _unavailable(*_args, **_kwargs):
    raise StoreUnavailableError("away")

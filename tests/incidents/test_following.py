"""What happens to checks, breakers and services becomes incidents: each once, whoever looks and when."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.database.tables import audit, check_changes, incident_events, incidents
from regrow.health import maintenance
from regrow.health.windows import Scope
from regrow.incidents import following, service
from tests.incidents.conftest import MakeHistory, children
from tests.incidents.history import History


@pytest.fixture
def history(make_history: MakeHistory) -> History:
    return make_history()


def only(history):
    (one,) = service.listed(history.engine)
    return one


def test_a_confirmed_failure_is_an_incident_until_it_is_confirmed_well_again(history):
    history.step(120)
    began = history.now + timedelta(seconds=30)
    history.fail("db")
    history.step(60)
    assert history.incidents() == []
    history.step(30)
    one = only(history)
    assert (one.root, one.kind, one.status, one.severity) == ("check:db", "down", "open", "critical")
    assert (one.began_at, one.detected_at) == (began, began + timedelta(seconds=60))
    history.mend()
    history.step(30)
    assert only(history).status == "open"
    back = history.now
    history.step(30)
    assert (only(history).status, only(history).resolved_at) == ("closed", back)
    assert history.told(one.id) == ["first_bad", "confirmed", "recovered", "closed"]
    (member,) = service.dossier(history.engine, one.id).members
    assert member.down_seconds == (back - began).total_seconds() == 90.0


def test_twenty_children_are_one_incident_at_their_parent(make_history):
    history = make_history(children(20))
    history.step(60)
    history.fail("db", *(f"app{number}" for number in range(20)))
    history.step(120)
    assert history.incidents() == [("db", "down", "open", 21)]
    history.mend()
    history.step(60)
    assert history.incidents() == [("db", "down", "closed", 21)]


def test_children_that_fail_before_their_parent_do_are_part_of_its_incident(make_history):
    history = make_history(children(3).replace("depends_on", "failures = 1\ndepends_on"))
    history.step(60)
    history.fail("app0", "app1", "app2")
    history.step(30)
    assert len(history.incidents()) == 3
    first = min(service.listed(history.engine), key=lambda one: one.id)
    history.fail("db")
    history.step(90)
    assert history.incidents() == [("db", "down", "open", 4)]
    assert only(history).id == first.id
    assert "rerooted" in history.told(first.id)
    merged = service.listed(history.engine, status="merged")
    assert [one.merged_into for one in merged] == [first.id] * 2


def test_what_fails_again_soon_is_the_same_incident_and_later_another_one(history):
    history.step(60)
    for pause in (600, 2400):
        history.fail("db")
        history.step(120)
        history.mend()
        history.step(pause)
    history.fail("db")
    history.step(120)
    assert history.incidents() == [("db", "down", "closed", 1), ("db", "down", "open", 1)]
    older = service.listed(history.engine)[1]
    assert older.reopened == 1
    assert history.told(older.id).count("reopened") == 1


def test_flapping_is_one_incident(history):
    history.step(900)
    for _ in range(12):
        history.fail("db")
        history.step(90)
        history.mend()
        history.step(60)
    assert len(service.listed(history.engine)) == 1
    history.step(1800)
    assert only(history).status == "closed"


def test_nothing_is_opened_in_a_window_and_what_outlives_it_is(make_history):
    history = make_history(children(2))
    history.step(60)
    engine = history.engine
    maintenance.add(
        engine, Scope(("db",)), history.now, history.now + timedelta(minutes=10), actor="ann", reason="disk"
    )
    history.step(60)
    history.fail("db", "app0", "app1")
    history.step(300)
    assert history.incidents() == []
    history.mend()
    history.step(360)
    assert history.incidents() == []
    maintenance.add(
        engine, Scope(("db",)), history.now, history.now + timedelta(minutes=10), actor="ann", reason="disk"
    )
    history.fail("db", "app0", "app1")
    history.step(560)
    assert history.incidents() == []
    history.step(120)
    assert history.incidents() == [("db", "down", "open", 3)]


def test_a_silent_monitor_is_an_incident_of_its_own_and_closes_nothing(history):
    history.step(60)
    history.fail("mail")
    history.step(120)
    history.silent = True
    history.step(170)
    assert len(history.incidents()) == 1
    history.step(60)
    assert history.incidents() == [("mail", "down", "open", 1), ("monitor", "monitor", "open", 1)]
    history.mend()
    history.silent = False
    history.step(90)
    assert [status for _, _, status, _ in history.incidents()] == ["closed", "closed"]


def test_a_silence_that_nobody_saw_is_told_afterwards(history):
    history.step(60)
    last = history.now
    history.silent = history.asleep = True
    history.step(3600)
    history.silent = history.asleep = False
    history.step(30)
    one = only(history)
    assert (one.kind, one.status, one.began_at, one.resolved_at) == (
        "monitor",
        "closed",
        last,
        last + timedelta(seconds=3630),
    )


def test_a_check_of_which_nothing_comes_is_unknown_until_it_is_heard_again(history):
    history.step(60)
    history.mute.add("db")
    history.step(240)
    assert history.incidents() == [("db", "unknown", "open", 1)]
    history.mute.clear()
    history.step(30)
    assert history.incidents() == [("db", "unknown", "closed", 1)]


def test_a_breaker_that_stays_open_is_an_incident_and_one_held_by_a_person_is_none(history):
    history.step(60)
    history.breaker("payments", "open")
    history.breaker("search", "open", actor="ann")
    history.step(90)
    history.breaker("payments", "half_open")
    assert history.incidents() == []
    history.step(60)
    assert history.incidents() == [("payments", "breaker", "open", 1)]
    history.breaker("payments", "closed")
    history.step(30)
    assert history.incidents() == [("payments", "breaker", "closed", 1)]
    assert history.told(only(history).id) == [
        "first_bad",
        "breaker_opened",
        "breaker_half_open",
        "confirmed",
        "recovered",
        "closed",
        "breaker_closed",
    ]


def test_the_breaker_and_the_locked_recovery_of_a_service_are_part_of_its_checks_incident(make_history):
    history = make_history('\n[recovery.services.db]\nkind = "breaker"\ntest = "db"\n')
    history.step(60)
    history.fail("db")
    history.step(30)
    history.breaker("db", "open")
    history.step(120)
    history.recovery("db", "locked")
    history.step(60)
    assert history.incidents() == [("db", "down", "open", 3)]
    history.mend()
    history.step(60)
    assert history.incidents()[0][2] == "open"
    history.recovery("db", "recovered")
    history.breaker("db", "closed")
    history.step(30)
    assert history.incidents() == [("db", "down", "closed", 3)]


def test_a_check_that_is_declared_no_more_closes_its_incident(make_history):
    history = make_history(children(1))
    history.step(60)
    history.fail("app0")
    history.step(120)
    without = make_history()
    without.clock.now = history.now + timedelta(seconds=10)
    without.look()
    assert without.incidents() == [("app0", "down", "closed", 1)]


def rows(engine):
    with engine.database.snapshot() as connection:
        events = sa.select(incident_events.c.incident, incident_events.c.source)
        return (
            sorted(connection.execute(sa.select(incidents.c.root, incidents.c.status)).all()),
            sorted(source for _, source in connection.execute(events)),
        )


def test_two_workers_at_once_and_one_that_dies_in_the_middle_make_the_same_incidents_once(
    make_history, database_url, monkeypatch
):
    history = make_history(children(3), database_url)
    history.asleep = True
    history.step(60)
    history.fail("db", "app0", "app1", "app2")
    history.step(120)

    def dies(*_args):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(following, "write_cursors", dies)
        with pytest.raises(SystemExit):
            history.look()
    assert rows(history.engine) == ([], [])
    start = threading.Barrier(4)

    def look():
        start.wait()
        history.look()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(look) for _ in range(4)]:
            done.result(60)
    assert history.incidents() == [("db", "down", "open", 4)]
    before = rows(history.engine)
    history.look()
    assert rows(history.engine) == before


def test_a_row_that_becomes_visible_late_makes_the_same_incident(make_history):
    history = make_history(children(1))
    history.asleep = True
    history.step(60)
    history.fail("db", "app0")
    history.step(120)
    table = check_changes
    late = sa.and_(table.c.check_name == "db", table.c.to_status == "unhealthy")
    with history.engine.database.transaction() as connection:
        row = dict(connection.execute(sa.select(table).where(late)).mappings().one())
        connection.execute(sa.delete(table).where(late))
    history.look()
    assert history.incidents() == [("db", "down", "open", 1)]
    with history.engine.database.transaction() as connection:
        connection.execute(sa.insert(table).values(row))
    history.look()
    assert history.incidents() == [("db", "down", "open", 2)]


def test_acts_by_hand_are_in_the_timeline_and_audited(history):
    engine = history.engine
    history.step(60)
    history.fail("db")
    history.step(120)
    one = only(history)
    acknowledged = service.acknowledge(engine, one.id, actor="ann", reason="mine")
    assert acknowledged.acknowledged_at == history.now
    history.step(60)
    assert service.acknowledge(engine, one.id, actor="bob", reason="me too").acknowledged_at < history.now
    service.note(engine, one.id, "the disk is full", actor="ann")
    service.set_root_cause(engine, one.id, "a full disk", actor="ann")
    service.close(engine, one.id, actor="ann", reason="given up")
    history.step(60)
    assert (only(history).status, only(history).closed_by, only(history).root_cause) == (
        "closed",
        "ann",
        "a full disk",
    )
    with engine.database.snapshot() as connection:
        acts = list(connection.execute(sa.select(audit.c.act, audit.c.actor).order_by(audit.c.id)))
    assert acts == [
        ("incident.acknowledged", "ann"),
        ("incident.acknowledged", "bob"),
        ("incident.note", "ann"),
        ("incident.cause", "ann"),
        ("incident.closed", "ann"),
    ]
    with pytest.raises(service.IncidentRefusedError, match="is closed since"):
        service.close(engine, one.id, actor="ann", reason="again")


def test_old_incidents_are_forgotten_with_all_that_belongs_to_them(history):
    history.step(60)
    history.fail("db")
    history.step(120)
    history.mend()
    history.step(120)
    assert service.prune(history.engine) == 0
    history.clock.now += timedelta(days=401)
    assert service.prune(history.engine) == 1
    assert rows(history.engine) == ([], [])

"""The contract of the store, on each database: one step is one transaction, whoever else is at it."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from regrow.database import Database
from regrow.database.tables import audit
from regrow.ids import uuid7
from regrow.recovery import rules
from regrow.recovery.budget import Limits
from regrow.recovery.model import Acted, Condition, Course, Envelope, Outcome, Seen
from regrow.recovery.store import Attempt, Audit, Event, Recoveries

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENVELOPE = Envelope()
WIDE = Limits(concurrency=100, per_minute=100)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@pytest.fixture
def store(database: Database) -> Recoveries:
    return Recoveries(database)


def opened(store: Recoveries, service: str = "bank", seconds: float = 0.0) -> None:
    seen = Seen(Condition.DOWN, at(seconds), f"breaker:{service}:7", at(seconds - 3), "breaker", "it is open")
    store.advance(service, lambda course: rules.observe(course, seen, ENVELOPE), "high", at(seconds))


def begun(
    store: Recoveries, service: str = "bank", seconds: float = 0.0, limits: Limits = WIDE, owner="here"
):
    now = at(seconds)
    wanted = Attempt(uuid7(now), service, None, 0, "command", "", None, "", owner, None, now)
    return store.begin(wanted, lambda c: rules.begin(c, wanted.id, owner, now, 30), limits, now)


def ended(store: Recoveries, attempt: Attempt, outcome: Outcome, seconds: float):
    acted = Acted(outcome is Outcome.SUCCEEDED, "said", {"exit": 1})
    return store.finish(
        attempt,
        outcome,
        acted,
        lambda c: rules.finish(c, attempt.id, outcome, ENVELOPE, at(seconds)),
        "critical",
        at(seconds),
    )


def test_a_course_comes_back_as_it_was_kept(store):
    opened(store)
    course = store.courses()["bank"]
    assert (course.opening, course.opened_at, course.trigger) == ("breaker:bank:7", at(-3), "breaker")
    ordered = rules.order(course, "ann", "now", at(1))
    store.advance("bank", lambda _: rules.Step(ordered), "high", at(1))
    assert store.courses()["bank"] == ordered
    attempt = begun(store, seconds=2).attempt
    kept = store.courses()["bank"]
    assert (kept.lease.token, kept.lease.until, kept.lease.by_hand) == (attempt.id, at(32), True)


def test_an_attempt_tells_its_opening_and_when_the_failure_began(store):
    opened(store)
    attempt = begun(store, seconds=1).attempt
    assert (attempt.attempt, attempt.opening, attempt.trigger) == (1, "breaker:bank:7", "breaker")
    assert (attempt.failed_at, attempt.reason) == (at(-3), "it is open")
    assert store.history("bank")[0].outcome is None
    assert ended(store, attempt, Outcome.SUCCEEDED, 4).accepted
    (row,) = store.history()
    assert (row.outcome, row.ended_at, row.message, row.evidence) == (
        "succeeded", at(4), "said", {"exit": 1},
    )  # fmt: skip
    (event,) = store.events(at(-10), "recovered")
    assert (event.subject, event.severity, event.data["seconds"]) == ("bank", "low", 7)


def test_a_lost_attempt_is_closed_and_stays_so(store):
    opened(store)
    attempt = begun(store).attempt
    store.advance("bank", lambda c: rules.expire(c, ENVELOPE, at(30)), "high", at(30))
    late = ended(store, attempt, Outcome.SUCCEEDED, 31)
    assert not late.accepted
    (row,) = store.history("bank")
    assert (row.outcome, row.ended_at) == ("lost", at(30))
    assert store.courses()["bank"].opening == "breaker:bank:7"


def test_the_third_failure_writes_the_event_that_calls_a_person(store):
    opened(store)
    for seconds in (0, 100, 300):
        ended(store, begun(store, seconds=seconds).attempt, Outcome.FAILED, seconds + 1)
    (event,) = store.events(at(0), "locked")
    assert (event.subject, event.severity, event.data["attempts"]) == ("bank", "critical", 3)
    assert store.courses()["bank"].locked_at == at(301)


def test_two_who_begin_at_once_are_one(store):
    opened(store)
    start, found = threading.Barrier(6), []

    def work(number: int) -> None:
        start.wait()
        found.append(begun(store, owner=f"worker {number}").attempt)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len([attempt for attempt in found if attempt is not None]) == 1
    assert len(store.history("bank")) == 1


def test_the_budget_holds_though_many_begin_at_once(store):
    names = [f"service-{n}" for n in range(12)]
    for name in names:
        opened(store, name)
    limits = Limits(concurrency=3, per_minute=100)
    start, found = threading.Barrier(len(names)), []

    def work(name: str) -> None:
        start.wait()
        found.append(begun(store, name, limits=limits))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.attempt is not None for one in found) == 3
    assert {one.why for one in found if one.attempt is None} == {
        "3 handlers of the fleet are under way (recovery.concurrency)"
    }
    assert store.load(at(1)).running == 3


def test_so_many_begin_within_a_minute_and_no_more(store):
    limits = Limits(concurrency=10, per_minute=2)
    for seconds, name in ((0, "a"), (20, "b"), (40, "c")):
        opened(store, name, seconds)
        one = begun(store, name, seconds, limits)
        if one.attempt:
            ended(store, one.attempt, Outcome.FAILED, seconds + 1)
    assert [row.service for row in store.history()] == ["b", "a"]
    assert begun(store, "c", 60.5, limits).attempt is not None


def test_a_persons_order_needs_no_budget(store):
    store.advance("bank", lambda c: rules.Step(rules.order(c, "ann", "", at(0))), "high", at(0))
    one = begun(store, limits=Limits(concurrency=1, per_minute=1)).attempt
    store.advance("mail", lambda c: rules.Step(rules.order(c, "ann", "", at(1))), "high", at(1))
    two = begun(store, "mail", 1, Limits(concurrency=1, per_minute=1)).attempt
    assert (one.trigger, one.actor, one.attempt, two.opening) == ("hand", "ann", 0, None)


def test_a_storm_is_told_once_and_anew_after_ten_minutes_without_one(store):
    assert [store.exhausted(at(s), "many wait") for s in (0, 5, 300, 899, 1500)] == [
        True, False, False, False, True,
    ]  # fmt: skip
    assert [event.severity for event in store.events(at(-1), "storm")] == ["high", "high"]


def test_an_act_by_hand_and_its_audit_row_are_one_transaction(store, database):
    written = Audit("ann", "recovery.unlock", "mended by hand")
    store.advance("bank", lambda c: rules.unlock(c, at(0)), "high", at(0), written=written)
    opened(store)
    ended(store, begun(store).attempt, Outcome.FAILED, 1)
    store.advance("bank", lambda c: rules.unlock(c, at(2)), "high", at(2), written=written)
    with database.snapshot() as connection:
        rows = connection.execute(sa.select(audit.c.actor, audit.c.act, audit.c.subject, audit.c.at)).all()
    assert rows == [("ann", "recovery.unlock", "bank", at(2))]


def test_the_newest_attempt_of_each_service(store):
    for seconds, name in ((0, "a"), (1, "b"), (200, "a")):
        opened(store, name, seconds)
        ended(store, begun(store, name, seconds).attempt, Outcome.FAILED, seconds + 1)
    newest = store.newest(["a", "b", "c"])
    assert {name: row.started_at for name, row in newest.items()} == {"a": at(200), "b": at(1)}


def test_events_of_others_are_kept_beside(store):
    store.tell([])
    store.tell([Event(at(0), "latency:shop", "early_warning", "low", "rises", {"points": 20})])
    assert store.events(at(0))[0].data == {"points": 20}
    assert store.events(at(1)) == []


def test_an_unchanged_course_is_not_written(store):
    step = store.advance("bank", lambda c: rules.Step(replace(c)), "high", at(0))
    assert step.course == Course()

"""The life of a letter on each real database: kept once, leased by one, settled once."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.database import Database
from regrow.database.tables import audit, capture_events, dead_letter_attempts, dead_letters
from regrow.dead_letters import leasing, redriving, service, store
from regrow.dead_letters.captured import of_message
from regrow.dead_letters.pacing import Gate
from regrow.engine import Engine
from regrow.errors import (
    LetterNotFoundError,
    LetterRefusedError,
    StoreUnavailableError,
    TransitionRefusedError,
)
from tests.dead_letters.conftest import Clock, Post, call, free, rows, take


def _state(engine: Engine, event_id: str) -> str:
    return service.show(engine, event_id).letter.state.value


def _redrive(engine: Engine, **options: object) -> dict[str, object]:
    return service.process_batch(engine, **{"held": free, **options})


def _in_flight(engine: Engine, clock: Clock, post: Post, **options: object) -> tuple[str, str]:
    """A captured and dispatched letter: (event id, attempt reference)."""
    event = service.capture(engine, call(**options))
    clock.advance(60)
    _redrive(engine)
    return event, post.attempts[-1]


# Capture


def test_the_same_event_told_twice_is_kept_once(letters: Engine) -> None:
    captured = call()
    assert service.capture(letters, captured) == service.capture(letters, captured) == captured.event_id
    found = service.show(letters, captured.event_id).letter
    assert (found.seen, service.counts(letters)["pending"]) == (1, 1)


def test_where_a_message_came_from_is_kept_with_its_letter(letters: Engine) -> None:
    origin = {
        "queue": "orders",
        "exchange": "shop",
        "routing_key": "order.new",
        "broker": "main",
        "correlation_id": "request-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "code_version": "v7",
        "deliveries": 3,
    }
    letter = service.show(letters, service.capture(letters, call(**origin))).letter
    assert {name: getattr(letter, name) for name in store.ORIGIN} == origin


def test_another_failure_of_a_live_message_is_seen_again_not_doubled(letters: Engine) -> None:
    for _ in range(3):
        event = service.capture(letters, call(idempotency_key="order-7"))
    assert service.show(letters, event).letter.seen == 3
    assert sum(service.counts(letters).values()) == 1


def test_a_message_that_fails_again_after_it_was_settled_is_a_new_generation(
    letters: Engine, clock: Clock, post: Post
) -> None:
    _, attempt = _in_flight(letters, clock, post, idempotency_key="order-7")
    service.settle(letters, attempt)
    event = service.capture(letters, call(idempotency_key="order-7"))
    assert service.show(letters, event).letter.generation == 2
    assert service.counts(letters) | {"resolved": 1, "pending": 1} == service.counts(letters)


def test_a_message_that_keeps_coming_back_ends_in_quarantine(
    letters: Engine, clock: Clock, post: Post
) -> None:
    for _ in range(letters.settings.dead_letters.max_generations):
        _, attempt = _in_flight(letters, clock, post, idempotency_key="loop")
        assert service.settle(letters, attempt)
    event = service.capture(letters, call(idempotency_key="loop"))
    found = service.show(letters, event).letter
    assert found.state == "quarantined"
    assert "keeps coming back" in str(found.reason)


def test_many_are_kept_in_one_go_with_doubles_joined(letters: Engine) -> None:
    captures = [call(n, idempotency_key=f"order-{n % 250}") for n in range(500)]
    events = service.capture_many(letters, captures)
    assert events == [c.event_id for c in captures]
    assert service.counts(letters)["pending"] == 250
    assert service.capture_many(letters, captures) == events
    with letters.database.snapshot() as connection:
        seen = connection.execute(sa.select(sa.func.sum(dead_letters.c.seen))).scalar_one()
        kept = connection.execute(sa.select(sa.func.count()).select_from(capture_events)).scalar_one()
    assert (seen, kept) == (500, 500)


def test_a_message_over_the_cap_is_refused_whole_and_nothing_of_the_batch_is_kept(letters: Engine) -> None:
    huge = of_message("x" * (letters.settings.dead_letters.max_body_bytes + 1))
    with pytest.raises(LetterRefusedError, match="max_body_bytes"):
        service.capture_many(letters, [call(), huge])
    assert service.counts(letters)["pending"] == 0


def test_the_body_is_kept_whole(letters: Engine) -> None:
    text = "✉" * 200_000
    event = service.capture(letters, of_message({"text": text, "null": None}, message_type="mail"))
    details = service.show(letters, event)
    assert text in details.text
    assert details.letter.message_type == "mail"


def test_capturers_of_one_key_at_the_same_time_make_one_letter(letters: Engine) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def capture() -> None:
        try:
            start.wait()
            for number in range(5):
                service.capture(letters, call(idempotency_key=f"order-{number}"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=capture) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with letters.database.snapshot() as connection:
        seen = connection.execute(sa.select(dead_letters.c.seen)).scalars().all()
    assert seen == [8] * 5


# Redrive


def test_a_letter_is_due_after_its_delay_and_not_before(letters: Engine, clock: Clock, post: Post) -> None:
    service.capture(letters, call())
    assert _redrive(letters)["leased"] == 0
    clock.advance(letters.settings.dead_letters.base_delay)
    assert _redrive(letters)["dispatched"] == 1
    assert [queue for queue, _ in post.home] == ["shop"]


def test_a_full_backlog_drains_in_batches_within_one_run(letters: Engine, clock: Clock, post: Post) -> None:
    service.capture_many(letters, [call(n) for n in range(45)])
    clock.advance(60)
    assert _redrive(letters, batch_size=20)["dispatched"] == 45
    assert sorted(m.args[0] for _, m in post.home) == list(range(45))


def test_success_settles_once_and_a_second_word_changes_nothing(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event, attempt = _in_flight(letters, clock, post)
    assert _state(letters, event) == "dispatched"
    assert service.settle(letters, attempt) is True
    settled_at = service.show(letters, event).letter.settled_at
    clock.advance(5)
    assert service.settle(letters, attempt) is False
    assert service.show(letters, event).letter.settled_at == settled_at
    assert service.record_failure(letters, attempt) is None
    assert _state(letters, event) == "resolved"


def test_a_failed_redrive_waits_longer_each_time_and_ends_with_a_person(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(letters, call(max_retries=3))
    waits = []
    for _ in range(3):
        clock.advance(60)
        _redrive(letters)
        service.record_failure(letters, post.attempts[-1], "still no funds")
        waits.append(service.show(letters, event).letter.due_at - clock.now)
    details = service.show(letters, event)
    assert timedelta(0) < waits[0] <= waits[1] * 2
    assert details.letter.state == "quarantined"
    assert details.letter.attempts == 3
    assert [a.outcome for a in details.attempts] == ["failed"] * 3
    assert details.attempts[0].error == "still no funds"
    clock.advance(3600)
    assert _redrive(letters)["leased"] == 0


def test_a_failure_of_an_earlier_attempt_does_not_touch_the_current_one(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event, first = _in_flight(letters, clock, post)
    clock.advance(letters.settings.dead_letters.outcome_deadline + 1)
    _redrive(letters)
    clock.advance(60)
    _redrive(letters)
    second = post.attempts[-1]
    assert second != first
    assert service.record_failure(letters, first) is None
    assert _state(letters, event) == "dispatched"
    assert service.settle(letters, second)


def test_a_late_success_of_an_earlier_attempt_settles_while_a_later_one_is_out(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event, first = _in_flight(letters, clock, post)
    clock.advance(letters.settings.dead_letters.outcome_deadline + 1)
    _redrive(letters)
    clock.advance(60)
    _redrive(letters)
    assert service.settle(letters, first) is True
    assert service.settle(letters, post.attempts[-1]) is False
    outcomes = sorted(str(a.outcome) for a in service.show(letters, event).attempts)
    assert outcomes == ["succeeded", "succeeded_again"]


def test_a_late_success_settles_a_quarantined_letter_but_never_a_discarded_one(
    letters: Engine, clock: Clock, post: Post
) -> None:
    kept, attempt = _in_flight(letters, clock, post, max_retries=1)
    service.record_failure(letters, attempt)
    assert _state(letters, kept) == "quarantined"
    assert service.settle(letters, attempt) is True

    gone, attempt = _in_flight(letters, clock, post, max_retries=1)
    service.record_failure(letters, attempt)
    service.discard(letters, gone, actor="ann", reason="refunded by hand")
    assert service.settle(letters, attempt) is False
    assert _state(letters, gone) == "discarded"


def test_silence_until_the_deadline_makes_it_due_again_and_costs_an_attempt(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event, _ = _in_flight(letters, clock, post)
    clock.advance(letters.settings.dead_letters.outcome_deadline + 1)
    assert _redrive(letters)["returned"] == 1
    found = service.show(letters, event)
    assert (found.letter.state, found.letter.attempts, found.attempts[0].outcome) == (
        "pending",
        1,
        "no_outcome",
    )


def test_a_dead_workers_lease_runs_out_and_its_zombie_can_do_no_harm(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(letters, call())
    clock.advance(60)
    [zombie] = take(letters, owner="zombie")
    clock.advance(7)
    assert _redrive(letters)["dispatched"] == 1  # returned and sent by the living
    after = service.show(letters, event).letter
    # The zombie wakes up and goes through everything a worker does with its lease.
    redriving._release(letters, zombie, "late")
    redriving._quarantine(letters, zombie, "late")
    mine = [(after.id, zombie.token)]
    assert not letters.database.run(lambda c: leasing.dispatched(c, mine, now=clock.now, deadline=clock.now))
    assert service.show(letters, event).letter == after


def test_a_slow_broker_does_not_outlive_its_lease(letters: Engine, clock: Clock, post: Post) -> None:
    service.capture_many(letters, [call(n) for n in range(4)])
    clock.advance(60)
    send = post.send_home

    def slowly(message, *, queue: str) -> None:
        send(message, queue=queue)
        clock.advance(2)

    post.send_home = slowly  # type: ignore[method-assign]
    done = _redrive(letters, batch_size=4)
    assert (done["leased"], done["released"]) == (6, 2), (
        "the lease is 6 s and half of it is for confirmation: two go, two are released and leased anew"
    )
    assert (done["dispatched"], len(post.home)) == (4, 4)


def test_text_that_no_database_can_hold_is_kept_as_its_escape(letters: Engine) -> None:
    event = service.capture(letters, of_message({"x": "\ud800"}, error="half \ud800 pair", message_type="t"))
    found = service.show(letters, event)
    assert found.letter.error_message == "half \\ud800 pair"
    assert json.loads(found.body.body) == {"x": "\ud800"}


def test_an_open_breaker_holds_letters_at_no_cost(letters: Engine, clock: Clock, post: Post) -> None:
    service.capture_many(letters, [call(n, service="payments") for n in range(3)] + [call(9, service="mail")])
    clock.advance(60)
    done = _redrive(letters, held=lambda _e, _s: {"payments": Gate("open", 30.0)})
    assert (done["held"], done["dispatched"]) == (1, 1)
    assert [m.args for _, m in post.home] == [[9]]
    for letter in service.list_letters(letters, service="payments"):
        assert (letter.state, letter.attempts) == ("pending", 0)
        assert service.show(letters, letter.id).attempts == (), "held means that nobody touched it"
    assert _redrive(letters)["dispatched"] == 3, "all are due at once when the breaker has closed"


def test_a_broker_that_is_away_releases_the_whole_batch_at_no_cost(
    letters: Engine, clock: Clock, post: Post
) -> None:
    service.capture_many(letters, [call(n) for n in range(5)])
    clock.advance(60)
    post.away = True
    done = _redrive(letters, batch_size=5)
    assert (done["released"], done["leased"]) == (5, 5)
    assert {(x.state.value, x.attempts) for x in service.list_letters(letters)} == {("pending", 0)}
    post.away = False
    clock.advance(60)
    assert _redrive(letters)["dispatched"] == 5


def test_a_broker_that_stays_away_is_not_asked_again_at_every_run(
    letters: Engine, make_settings, database_url: str, clock: Clock, post: Post
) -> None:
    event = service.capture(letters, call())
    asked = []
    post.send_home = lambda message, *, queue: asked.append(queue) or _away()  # type: ignore[method-assign]
    # The breaker's time is the machine's own: longer than the slowest takes for twelve runs.
    settings = make_settings(database_url=database_url, REGROW_BREAKERS__DEFAULT__RECOVERY_TIMEOUT="600")
    with contextlib.closing(Engine(settings, sender=post, clock=clock)) as engine:
        for _ in range(12):
            clock.advance(60)
            assert _redrive(engine)["released"] == 1
        assert len(asked) == settings.breaker(service.BROKER).failure_threshold
    found = service.show(letters, event).letter
    assert (found.state, found.attempts) == ("pending", 0)


def _away() -> None:
    raise StoreUnavailableError("the broker is away")


def test_a_letter_without_a_way_home_waits_for_a_person(letters: Engine, clock: Clock, post: Post) -> None:
    nowhere = service.capture(letters, of_message({"to": "x"}, message_type="sms"))
    unknown = service.capture(letters, call())
    clock.advance(60)
    post.no_queue = True
    assert _redrive(letters)["quarantined"] == 2
    assert "[dead_letters.routes.sms]" in str(service.show(letters, nowhere).letter.reason)
    assert "no queue 'shop'" in str(service.show(letters, unknown).letter.reason)


def test_confirm_publish_settles_with_the_brokers_word(letters: Engine, clock: Clock, post: Post) -> None:
    event = service.capture(letters, call(confirm="publish"))
    clock.advance(60)
    assert _redrive(letters)["resolved"] == 1
    assert _state(letters, event) == "resolved"


def test_redrivers_at_the_same_time_send_each_letter_once(letters: Engine, clock: Clock, post: Post) -> None:
    service.capture_many(letters, [call(n) for n in range(120)])
    clock.advance(60)
    threads = [
        threading.Thread(target=_redrive, args=(letters,), kwargs={"batch_size": 10}) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(m.args[0] for _, m in post.home) == list(range(120))
    assert service.counts(letters)["dispatched"] == 120


def test_two_workers_lease_different_letters_without_waiting_for_each_other(
    mysql_url: str, clock: Clock, make_settings
) -> None:
    engine = Engine(make_settings(database_url=mysql_url), clock=clock)
    engine.database.upgrade()
    service.capture_many(engine, [call(n) for n in range(20)])
    clock.advance(60)
    other = Database(mysql_url)
    how = {"owner": "w", "now": clock.now, "seconds": 60, "limit": 10}
    with engine.database.transaction() as first, other.transaction() as second:
        one, _ = leasing.lease_some(first, "payments", **how)
        two, _ = leasing.lease_some(second, "payments", **how)
    assert len({x.letter.id for x in one + two}) == 20
    other.close()
    engine.close()


# By hand


def test_a_person_retries_a_quarantined_letter_and_it_is_audited(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event, attempt = _in_flight(letters, clock, post, max_retries=1)
    service.record_failure(letters, attempt)
    service.retry(letters, event, actor="ann", reason="bank is back")
    assert _redrive(letters)["dispatched"] == 1
    assert service.settle(letters, post.attempts[-1])
    [row] = rows(letters.database, sa.select(audit.c.actor, audit.c.act, audit.c.reason, audit.c.details))
    assert (row.actor, row.act, row.reason) == ("ann", "dead_letter.retry", "bank is back")
    assert row.details["was"] == "quarantined"


def test_what_is_in_flight_or_settled_cannot_be_retried_or_discarded(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event, attempt = _in_flight(letters, clock, post)
    for _ in range(2):
        with pytest.raises(TransitionRefusedError):
            service.retry(letters, event, actor="ann")
        with pytest.raises(TransitionRefusedError):
            service.discard(letters, event, actor="ann", reason="x")
        service.settle(letters, attempt)


def test_a_discard_needs_a_reason_and_a_letter(letters: Engine) -> None:
    event = service.capture(letters, call())
    with pytest.raises(TransitionRefusedError, match="reason"):
        service.discard(letters, event, actor="ann", reason="  ")
    with pytest.raises(LetterNotFoundError):
        service.discard(letters, "nobody", actor="ann", reason="x")
    with pytest.raises(LetterNotFoundError):
        service.show(letters, "nobody")


def test_lists_page_by_key_and_filter(letters: Engine, clock: Clock) -> None:
    for number in range(5):
        clock.advance(1)
        service.capture(letters, call(number, service="a" if number % 2 else "b"))
    first = service.list_letters(letters, limit=2)
    second = service.list_letters(letters, limit=2, before=first[-1].id)
    third = service.list_letters(letters, limit=2, before=second[-1].id)
    ids = [x.id for x in first + second + third]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 5
    assert len(service.list_letters(letters, service="b")) == 3
    with pytest.raises(LetterNotFoundError, match="no such state"):
        service.list_letters(letters, state="lost")


# Retention and figures


def test_only_letters_settled_long_ago_are_purged_and_a_late_double_is_still_known(
    letters: Engine, clock: Clock, post: Post
) -> None:
    captured = call(idempotency_key="old")
    service.capture(letters, captured)
    clock.advance(60)
    _redrive(letters)
    service.settle(letters, post.attempts[-1])
    waiting = service.capture(letters, call(2))
    clock.advance(8 * 86400)
    assert service.cleanup(letters, 7)["purged"] == 1
    assert _state(letters, waiting) == "pending"
    service.capture(letters, captured)
    assert service.counts(letters)["pending"] == 1
    assert rows(letters.database, sa.select(dead_letter_attempts)) == []


def test_the_figures_add_up(letters: Engine, clock: Clock, post: Post) -> None:
    start = clock.now
    assert service.oldest_pending(letters) is None
    _, attempt = _in_flight(letters, clock, post)
    service.settle(letters, attempt)
    second = service.capture(letters, call(2, failed_at=clock.now))
    service.discard(letters, service.capture(letters, call(3)), actor="ann", reason="test")
    counts = service.counts(letters)
    assert (counts["resolved"], counts["pending"], counts["discarded"]) == (1, 1, 1)
    flow = service.flow(letters, start, clock.now + timedelta(seconds=1))
    assert flow == {"captured": 3, "resolved": 1, "discarded": 1}
    assert service.oldest_pending(letters) == service.show(letters, second).letter.first_failed_at

"""Classes, usefulness and order keys on each real database: what a failure costs, and who waits for whom."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import timedelta

import pytest

from regrow.celery.messages import RawMessage, TaskRevokedError, failure_of
from regrow.celery.sinks import capture_of
from regrow.dead_letters import service
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.home import HomeMessage
from regrow.engine import Engine
from regrow.errors import CircuitOpenError, LetterRefusedError, TransitionRefusedError
from regrow.failures import FailureClass
from tests.dead_letters.conftest import Clock, Post, call, free

LOST = Cause(("billiard.exceptions.WorkerLostError",))


def _redrive(engine: Engine, clock: Clock, **options: object) -> dict[str, int]:
    clock.advance(60)
    return service.process_batch(engine, held=free, **options)  # type: ignore[arg-type]


def _letter(engine: Engine, event: str) -> object:
    return service.show(engine, event).letter


def test_a_letter_that_an_open_breaker_refuses_comes_back_free(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(letters, call(max_retries=1))
    for number in range(1, 5):
        _redrive(letters, clock)
        refused = CircuitOpenError("payments", 30.0)
        assert service.record_failure(letters, post.attempts[-1], "refused", Cause.of(refused)) == "pending"
        found = service.show(letters, event)
        assert (found.letter.attempts, found.letter.waits, found.letter.failure_class) == (
            0,
            number,
            "breaker_refused",
        )
        assert timedelta(seconds=30) <= found.letter.due_at - clock.now <= timedelta(seconds=36)
    assert [a.outcome for a in found.attempts] == ["refused"] * 4


def test_an_outage_uses_up_all_attempts_and_kills_nothing_that_is_young(
    letters: Engine, clock: Clock, post: Post
) -> None:
    young = letters.settings.model_copy(
        update={"dead_letters": letters.settings.dead_letters.model_copy(update={"min_age": 3600.0})}
    )
    letters.settings = young
    event = service.capture(letters, call(max_retries=2))
    for _ in range(5):
        _redrive(letters, clock)
        assert service.record_failure(letters, post.attempts[-1], "timeout", Cause(("TimeoutError",)))
    assert _letter(letters, event).state == "pending"
    assert _letter(letters, event).attempts == 5
    clock.advance(3600)
    _redrive(letters, clock)
    assert service.record_failure(letters, post.attempts[-1], "x", Cause(("TimeoutError",))) == "quarantined"


def test_what_kills_its_worker_twice_is_poison_and_a_deploy_is_not(
    letters: Engine, clock: Clock, post: Post
) -> None:
    deployed = service.capture(letters, call(1, max_retries=9))
    for _ in range(3):  # the worker says of a child that it took down itself: transient
        _redrive(letters, clock)
        told = Cause(LOST.lineage, told="transient")  # type: ignore[arg-type]
        service.record_failure(letters, post.attempts[-1], "lost", told)
    assert _letter(letters, deployed).state == "pending"
    service.discard(letters, deployed, actor="ann", reason="test")

    event = service.capture(letters, call(2, max_retries=9))
    _redrive(letters, clock)
    assert service.record_failure(letters, post.attempts[-1], "lost", LOST) == "pending"
    _redrive(letters, clock)
    assert service.record_failure(letters, post.attempts[-1], "lost", LOST) == "quarantined"
    assert "died twice" in str(_letter(letters, event).reason)


def test_a_permanent_failure_waits_for_a_person_from_its_capture_on(letters: Engine) -> None:
    event = service.capture(letters, call(failure_class="permanent"))
    assert _letter(letters, event).state == "quarantined"
    with pytest.raises(LetterRefusedError, match="transient, rate_limited"):
        call(failure_class="bad luck")


def test_unknown_failures_have_few_tries_unless_the_capture_says_more(letters: Engine) -> None:
    few = letters.settings.dead_letters.unknown_retries
    assert _letter(letters, service.capture(letters, call(1))).max_retries == few
    assert _letter(letters, service.capture(letters, call(2, max_retries=8))).max_retries == 8
    known = service.capture(letters, call(3, error=TimeoutError()))
    assert _letter(letters, known).max_retries == letters.settings.dead_letters.max_retries


def test_the_error_told_after_celerys_bare_callback_still_decides(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(letters, call())
    _redrive(letters, clock)
    attempt = post.attempts[-1]
    assert service.record_failure(letters, attempt) == "pending"
    assert _letter(letters, event).attempts == 1
    refused = CircuitOpenError("payments", 30.0)
    assert service.record_failure(letters, attempt, "refused", Cause.of(refused)) == "pending"
    found = service.show(letters, event)
    assert (found.letter.attempts, found.attempts[0].outcome, found.attempts[0].error) == (
        0,
        "refused",
        "refused",
    )
    assert service.record_failure(letters, attempt, "again", Cause.of(refused)) is None, "once, not for ever"


def test_what_is_no_longer_useful_waits_for_a_person_and_is_not_sent(
    letters: Engine, clock: Clock, post: Post
) -> None:
    until = clock.now + timedelta(seconds=90)
    event = service.capture(letters, call(useful_until=until))
    later = service.capture(letters, call(2, useful_until=clock.now + timedelta(days=1)))
    assert _redrive(letters, clock)["dispatched"] == 2
    service.record_failure(letters, post.attempts[0])
    service.record_failure(letters, post.attempts[1])
    done = _redrive(letters, clock)
    assert (done["quarantined"], done["dispatched"]) == (1, 1)
    assert "no longer useful" in str(_letter(letters, event).reason)
    assert _letter(letters, later).state == "dispatched"
    service.retry(letters, event, actor="ann", reason="the customer still wants it")
    assert _redrive(letters, clock)["dispatched"] == 1


def test_priority_goes_first_among_the_due(letters: Engine, clock: Clock, post: Post) -> None:
    for number, priority in enumerate(("low", "normal", "high")):
        service.capture(letters, call(number, priority=priority))
    _redrive(letters, clock)
    assert [m.args[0] for _, m in post.home] == [2, 1, 0]


def test_a_service_with_a_long_queue_leaves_room_for_the_others(
    letters: Engine, clock: Clock, post: Post
) -> None:
    service.capture_many(letters, [call(n, service="loud") for n in range(60)])
    service.capture_many(letters, [call(100 + n, service="quiet") for n in range(3)])
    _redrive(letters, clock, batch_size=10)
    order = [m.args[0] for _, m in post.home]
    assert sorted(order) == [*range(60), 100, 101, 102]
    assert max(order.index(number) for number in (100, 101, 102)) < 10


# Order keys


def test_letters_of_a_key_go_one_at_a_time_in_the_order_of_their_capture(
    letters: Engine, clock: Clock, post: Post
) -> None:
    service.capture_many(letters, [call(n, order_key="account-7") for n in range(3)])
    for number in range(3):
        assert _redrive(letters, clock)["dispatched"] == 1
        assert post.home[-1][1].args == [number]
        assert service.settle(letters, post.attempts[-1])
    assert service.counts(letters)["resolved"] == 3


def test_a_poisoned_key_parks_its_followers_and_nobody_else(
    letters: Engine, clock: Clock, post: Post
) -> None:
    first, second, other = service.capture_many(
        letters,
        [call(1, order_key="a", max_retries=1), call(2, order_key="a"), call(3, order_key="b")],
    )
    assert _redrive(letters, clock)["dispatched"] == 2
    sent = {m.args[0]: m.headers["regrow-letter"] for _, m in post.home}
    service.record_failure(letters, sent[1])
    assert service.settle(letters, sent[3])
    assert _letter(letters, first).state == "quarantined"
    assert _redrive(letters, clock)["leased"] == 0
    waiting = _letter(letters, second)
    assert (waiting.state, _letter(letters, first).id in str(waiting.reason)) == ("pending", True)
    assert _letter(letters, other).state == "resolved"
    with pytest.raises(TransitionRefusedError, match="retry or discard that one first"):
        service.retry(letters, second, actor="ann")
    service.discard(letters, first, actor="ann", reason="refunded by hand")
    assert _letter(letters, second).reason is None
    assert _redrive(letters, clock)["dispatched"] == 1
    assert post.home[-1][1].args == [2]


def test_a_letter_that_fails_keeps_its_turn(letters: Engine, clock: Clock, post: Post) -> None:
    service.capture_many(letters, [call(n, order_key="a") for n in range(2)])
    for _ in range(2):
        assert _redrive(letters, clock)["dispatched"] == 1
        assert post.home[-1][1].args == [0]
        service.record_failure(letters, post.attempts[-1])


def test_one_captured_while_the_other_was_being_settled_is_not_forgotten(
    letters: Engine, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = service.capture(letters, call(1, order_key="a"))
    second = service.capture(letters, call(2, order_key="a"))
    _redrive(letters, clock)
    # What a settlement does that cannot see the second one yet.
    monkeypatch.setattr("regrow.dead_letters.ordering.wake", lambda *_: None)
    assert service.settle(letters, post.attempts[-1])
    monkeypatch.undo()
    assert _letter(letters, first).state == "resolved"
    assert _letter(letters, second).rank is None
    assert _redrive(letters, clock)["dispatched"] == 1


def test_what_a_person_revoked_is_no_poison_and_what_nobody_could_run_is(letters: Engine) -> None:
    raw = RawMessage(b"[]", {"task": "shop.charge", "id": "t-1"}, "application/json", "utf-8", "shop")
    taken_back = failure_of("revoked", raw, TaskRevokedError())
    broken = failure_of("poison", replace(raw, headers={}), ValueError("no task"), told=FailureClass.POISON)
    events = service.capture_many(letters, [capture_of(taken_back), capture_of(broken)])
    found = [_letter(letters, event) for event in events]
    assert [letter.failure_class for letter in found] == ["permanent", "poison"]
    assert [letter.state for letter in found] == ["quarantined", "quarantined"]
    assert [letter.losses for letter in found] == [0, 0], "no worker died of them"


def test_an_error_that_no_database_takes_as_it_is_is_told_all_the_same(
    letters: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(letters, call())
    _redrive(letters, clock)
    assert service.record_failure(letters, post.attempts[0], "half a \ud83d") == "pending"
    [attempt] = service.show(letters, event).attempts
    assert attempt.error == "half a \\ud83d"


def test_one_letter_that_cannot_be_sent_for_a_reason_nobody_foresaw_does_not_stop_the_others(
    letters: Engine, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = service.capture(letters, call(1, max_retries=2))
    service.capture(letters, call(2))
    send_home = Post.send_home

    def struggles(self: Post, message: HomeMessage, *, queue: str) -> None:
        if b"[[1]" in (message.raw.body if message.raw else b"") or 1 in message.args:
            raise struct.error("short string too long")
        send_home(self, message, queue=queue)

    monkeypatch.setattr(Post, "send_home", struggles)
    clock.advance(3600)
    done = service.process_batch(letters, held=free)
    assert (done["dispatched"], done["failed"]) == (1, 1)
    assert (_letter(letters, odd).state, _letter(letters, odd).attempts) == ("pending", 1)
    clock.advance(40 * 86_400)
    service.process_batch(letters, held=free)
    assert _letter(letters, odd).state == "quarantined", "a person looks at it, in the end"

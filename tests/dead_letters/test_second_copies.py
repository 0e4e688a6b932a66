"""A late letter: what is known of its first message decides whether, and when, a second one is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from regrow.cli.dead_letters import show
from regrow.dead_letters import service, started_marks
from regrow.dead_letters.posting import SENT_AT
from regrow.dead_letters.second_copies import QueueLook, Traces, hold_of
from regrow.engine import Engine, set_engine
from tests.dead_letters.conftest import Clock, Post, call, free

SENT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
BEFORE, AFTER = SENT - timedelta(seconds=30), SENT + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("traces", "why", "certain"),
    [
        (Traces(True, "started", QueueLook(0)), "in hand", True),
        (Traces(True, "received", None), "in hand", True),
        (Traces(True, None, QueueLook(0)), None, False),
        (Traces(False, None, QueueLook(0)), "unknown", False),
        (Traces(True, None, None), "unknown", False),
        # Redis: the oldest redriven message of the queue says what has been taken.
        (Traces(True, None, QueueLook(9, oldest=BEFORE, whole=True)), "in queue", True),
        (Traces(True, None, QueueLook(9, oldest=SENT, whole=True)), "in queue", True),
        (Traces(True, None, QueueLook(9, oldest=AFTER, whole=True)), None, False),
        (Traces(True, None, QueueLook(9, oldest=AFTER, whole=False)), "queue too long", False),
        (Traces(True, None, QueueLook(9, whole=True)), None, False),
        (Traces(True, None, QueueLook(900)), "queue too long", False),
        # RabbitMQ: how many wait, and whether anybody takes them.
        (Traces(True, None, QueueLook(0, consumers=0)), None, False),
        (Traces(True, None, QueueLook(3, consumers=0)), "no consumer", True),
        (Traces(True, None, QueueLook(3, consumers=1)), "queue not empty", False),
    ],
)
def test_a_copy_is_sent_when_the_first_message_is_gone(
    traces: Traces, why: str | None, certain: bool
) -> None:
    hold = hold_of(traces, SENT)
    assert (hold and hold.why, bool(hold and hold.certain)) == (why, certain)


@pytest.fixture
def make_late(
    make_settings: Callable[..., object], redis_url: str, database_url: str, clock: Clock, post: Post
) -> Iterator[Callable[..., Engine]]:
    """Engines whose one letter was sent to queue ``shop`` and is late."""
    made = []

    def make(redis: str = redis_url) -> Engine:
        settings = make_settings(redis, database_url, REGROW_DEAD_LETTERS__COPY_PATIENCE="300")
        engine = Engine(settings, sender=post, clock=clock)
        made.append(engine)
        engine.database.upgrade()
        service.capture(engine, call())
        clock.advance(60)
        assert service.process_batch(engine, held=free)["dispatched"] == 1
        clock.advance(engine.settings.dead_letters.outcome_deadline + 1)
        return engine

    yield make
    for engine in made:
        engine.close()


def _redrive(engine: Engine, clock: Clock, seconds: float = 0) -> dict[str, int]:
    clock.advance(seconds)
    done = service.process_batch(engine, held=free)
    return {name: done[name] for name in ("returned", "awaited")}


def test_what_still_waits_in_its_queue_is_never_sent_twice_however_long_it_takes(
    make_late: Callable[..., Engine], clock: Clock, post: Post
) -> None:
    engine = make_late()
    sent = datetime.fromisoformat(post.home[0][1].headers[SENT_AT])
    post.queues["shop"] = QueueLook(20_000, oldest=sent, whole=True)
    for _ in range(50):
        assert _redrive(engine, clock, 61) == {"returned": 0, "awaited": 1}
    (letter,) = service.list_letters(engine)
    (attempt,) = service.show(engine, letter.id).attempts
    assert (attempt.holds, attempt.held_for) == (50, "its message still waits in its queue")
    assert len(post.home) == 1
    del post.queues["shop"]
    assert _redrive(engine, clock, 61) == {"returned": 1, "awaited": 0}
    _redrive(engine, clock, 60)
    assert len(post.home) == 2
    assert service.settle(engine, post.attempts[0]), "and the first one may still be the one that succeeds"


def test_what_a_living_worker_has_in_hand_is_waited_for_and_a_dead_ones_mark_passes(
    make_late: Callable[..., Engine], clock: Clock, post: Post
) -> None:
    engine = make_late()
    started_marks.write(engine.redis, {post.attempts[0]: "started"})
    key = started_marks.mark_key(post.attempts[0])
    assert 0 < engine.redis.ttl(key) <= started_marks.KEPT
    assert _redrive(engine, clock) == {"returned": 0, "awaited": 1}
    set_engine(engine)
    try:
        shown = CliRunner().invoke(show, [service.list_letters(engine)[0].id])
    finally:
        set_engine(None)
    assert "late; waited for (once): a worker has its message in hand" in " ".join(shown.output.split())
    engine.redis.delete(key)  # as it passes when nobody renews it
    assert _redrive(engine, clock, 61) == {"returned": 1, "awaited": 0}


def test_where_nothing_can_be_learned_the_wait_is_bounded_and_then_the_copy_goes_with_the_same_effect_key(
    make_late: Callable[..., Engine], clock: Clock, post: Post
) -> None:
    engine = make_late("redis://127.0.0.1:1/0")
    waited = 0
    while _redrive(engine, clock, 61)["awaited"]:
        waited += 1
    assert waited == 4, "300 seconds"
    _redrive(engine, clock, 60)
    assert len({message.headers["regrow-effect-key"] for _, message in post.home}) == 1
    assert len(post.home) == 2


def test_a_letter_that_came_due_between_the_look_and_the_lock_is_looked_at_next_time(
    make_late: Callable[..., Engine], clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_late()
    monkeypatch.setattr("regrow.dead_letters.leasing.unanswered", lambda *_: [])
    assert _redrive(engine, clock) == {"returned": 0, "awaited": 0}
    monkeypatch.undo()
    assert _redrive(engine, clock) == {"returned": 1, "awaited": 0}

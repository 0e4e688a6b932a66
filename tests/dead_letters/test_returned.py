"""Redriven messages that lie in a dead-letter queue again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from regrow.dead_letters import redriving, service
from regrow.dead_letters.captured import Capture, of_message
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.home import HEADER
from regrow.engine import Engine
from regrow.errors import RouteError
from tests.dead_letters.conftest import Clock, Post, free, return_overdue


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


def dead(number: int = 1, **facts: object) -> Capture:
    """What a dead-letter queue told of a message."""
    made = of_message(
        {"n": number}, message_type="order.paid", service="orders", idempotency_key=f"m-{number}"
    )
    origin = {"queue": "orders", "exchange": "shop", "routing_key": "paid", "source": "amqp"}
    return replace(made, **{**origin, "error_class": "rejected", "event_id": f"died-{number}", **facts})


def _redrive(letters: Engine, clock: Clock) -> dict[str, int]:
    clock.advance(3600)
    return redriving.process_batch(letters, held=free)


def _attempt(post: Post) -> str:
    return post.posted[-1].headers[HEADER]


def test_settled_by_its_publication_it_becomes_the_next_generation_until_its_redrives_are_used_up(
    letters: Engine, clock: Clock, post: Post
) -> None:
    service.capture(letters, dead(max_retries=2))
    for generation in (2, 3):
        assert _redrive(letters, clock)["resolved"] == 1
        back = dead(event_id=f"died-{generation}", idempotency_key="event:whatever")
        service.came_back(letters, _attempt(post), back)
        service.came_back(letters, _attempt(post), back)
        newest = service.list_letters(letters)[0]
        assert (newest.generation, newest.idempotency_key, newest.seen) == (generation, "m-1", 1)
        assert newest.max_retries == 3 - generation
    assert newest.state == "quarantined"
    assert newest.reason == "came back from its dead-letter queue after the last of 1 redrives"


def test_it_may_come_back_before_its_publication_is_written_down(
    letters: Engine, clock: Clock, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Post.publish

    def rejected_at_once(self: Post, posting: object) -> None:
        publish(self, posting)
        service.came_back(letters, _attempt(self), dead(event_id="back"))

    monkeypatch.setattr(Post, "publish", rejected_at_once)
    event = service.capture(letters, dead())
    _redrive(letters, clock)
    found = service.show(letters, event)
    assert (found.letter.state, found.letter.attempts) == ("pending", 1), "it is not settled"
    assert found.attempts[0].outcome == "failed"
    assert len(service.list_letters(letters)) == 1


@pytest.fixture
def waiting(make_settings, tmp_path, clock: Clock, post: Post) -> Iterator[Engine]:
    """An engine that waits for the outcome of what it publishes."""
    (tmp_path / "regrow.toml").write_text(
        "[dead_letters.routes.'order.paid']\nkind = 'amqp'\nconfirm = 'outcome'\n"
    )
    engine = Engine(make_settings(REGROW_CONFIG=str(tmp_path / "regrow.toml")), sender=post, clock=clock)
    engine.database.upgrade()
    yield engine
    engine.close()


def test_where_the_outcome_is_waited_for_it_is_that_attempts_failure(
    waiting: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(waiting, dead())
    assert _redrive(waiting, clock)["dispatched"] == 1
    assert (post.posted[0].exchange, post.posted[0].routing_key) == ("shop", "paid")
    service.came_back(waiting, _attempt(post), dead(event_id="back", error_message="rejected again"))
    found = service.show(waiting, event)
    assert (found.letter.state, found.attempts[0].error) == ("pending", "rejected: rejected again")
    assert len(service.list_letters(waiting)) == 1


def test_what_comes_back_of_an_earlier_attempt_changes_nothing(
    waiting: Engine, clock: Clock, post: Post
) -> None:
    event = service.capture(waiting, dead())
    _redrive(waiting, clock)
    clock.advance(waiting.settings.dead_letters.outcome_deadline + 1)
    return_overdue(waiting)
    _redrive(waiting, clock)
    first, second = (posting.headers[HEADER] for posting in post.posted)
    service.settle(waiting, second)
    service.came_back(waiting, first, dead(event_id="late"))
    assert service.show(waiting, event).letter.state == "resolved"
    assert len(service.list_letters(waiting)) == 1


def test_a_message_of_an_attempt_that_nobody_knows_is_kept_as_a_new_one(letters: Engine) -> None:
    service.came_back(letters, "letter:token", dead())
    (letter,) = service.list_letters(letters)
    assert (letter.generation, letter.idempotency_key) == (1, "m-1")
    with pytest.raises(RouteError):
        service.came_back(letters, "junk", dead())


def test_what_fails_after_its_publication_settled_it_goes_on_as_the_next_generation(
    letters: Engine, clock: Clock, post: Post
) -> None:
    options = {"confirm": "publish", "service": "shop", "max_retries": 1, "order_key": "k"}
    service.capture(letters, of_message({"task": "shop.charge", "args": [7], "id": "t-7"}, **options))
    assert _redrive(letters, clock)["resolved"] == 1
    attempt = post.attempts[0]
    service.record_failure(letters, attempt, "ValueError: no funds", Cause(("ValueError",)))
    service.record_failure(letters, attempt)  # Celery's own callback tells of it too
    newest, first = service.list_letters(letters)
    assert (newest.generation, newest.state, newest.seen, newest.order_key) == (2, "quarantined", 1, "k")
    assert (newest.error_class, first.state) == ("ValueError", "resolved")
    assert service.show(letters, newest.id).body.body == service.show(letters, first.id).body.body
    assert service.read_ledger(letters).balanced


def test_what_an_outcome_settled_is_not_made_anew_by_a_copy_that_failed(
    letters: Engine, clock: Clock, post: Post
) -> None:
    service.capture(letters, of_message({"task": "shop.charge", "args": [7], "id": "t-7"}))
    _redrive(letters, clock)
    clock.advance(1)
    assert service.settle(letters, post.attempts[0])
    service.record_failure(letters, post.attempts[0], "too late")
    assert [letter.state for letter in service.list_letters(letters)] == ["resolved"]


@pytest.mark.parametrize("purged", [False, True], ids=["there", "purged"])
def test_the_next_generation_is_about_whom_the_one_before_was_and_is_erased_with_it(
    letters: Engine, clock: Clock, post: Post, purged: bool
) -> None:
    service.capture(letters, dead(subject="customer-7"))
    _redrive(letters, clock)
    if purged:
        clock.advance(8 * 86_400)
        assert service.cleanup(letters)["purged"] == 1
    back = dead(event_id="back", idempotency_key="event:whatever")
    service.came_back(letters, _attempt(post), back)
    newest = service.list_letters(letters)[0]
    assert (newest.generation, newest.idempotency_key) == (2, "m-1")
    done = service.erase(letters, subject="customer-7", actor="ann", reason="asked to", force=True)
    assert done["letters"] == (1 if purged else 2)
    assert service.show(letters, newest.id).body.body == b""

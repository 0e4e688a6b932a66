"""The task API: what comes in is kept or set aside whole, what waits for a store goes back to the broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from celery.exceptions import Reject

from regrow import jobs
from regrow.celery import redeliveries
from regrow.dead_letters import redriving, service
from regrow.dead_letters.captured import of_message, to_wire
from regrow.engine import Engine, set_engine
from regrow.errors import StoreUnavailableError, TransitionRefusedError
from tasks import dead_letters as tasks
from tests.dead_letters.conftest import Clock, Post
from worker.gathered import ALONE, Gathered, keep_together


@pytest.fixture
def here(letters: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The engine that tasks find; no breaker is open, and waiting takes no time."""
    set_engine(letters)
    monkeypatch.setattr(tasks, "_PAUSE", 0.0)
    monkeypatch.setattr(redriving, "ask_breakers", lambda *_: {})
    yield letters
    set_engine(None)


def _run(task: object, task_id: str = "t-1", *args: object, **kwargs: object) -> object:
    """As a worker runs it, with this task id."""
    return task.apply(args=args, kwargs=kwargs, task_id=task_id, throw=True).result  # type: ignore[attr-defined]


def _gathered(task_id: str, **options: object) -> Gathered:
    body = json.dumps([[1], options, {}])
    return Gathered(task_id, body, "application/json", "utf-8", 0, None)


def _unfiled(engine: Engine) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in Path(engine.settings.home, "unfiled").glob("*.json")]


def test_a_message_by_name_alone_is_kept_and_its_task_id_is_the_event(here: Engine) -> None:
    event = _run(tasks.capture, "t-1", {"to": "x"}, error="refused", message_type="mail", service="smtp")
    assert event == "t-1"
    found = service.show(here, "t-1").letter
    assert (found.message_type, found.service, found.error_message) == ("mail", "smtp", "refused")
    _run(tasks.capture, "t-1", {"to": "x"}, error="refused", message_type="mail", service="smtp")
    assert service.show(here, "t-1").letter.seen == 1, "a redelivery is the same event"


def test_what_the_library_sent_keeps_its_own_event_id(here: Engine) -> None:
    captured = of_message({"a": 1}, message_type="m")
    assert _run(tasks.capture, "t-9", capture=to_wire(captured)) == captured.event_id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"message": {"a": 1}, "colour": "red"}, "colour"),
        ({"message": {"a": 1}, "confirm": "maybe"}, "confirm"),
        ({"capture": {"body": "x"}}, "not a capture"),
    ],
)
def test_arguments_that_make_no_letter_are_set_aside_whole(here: Engine, arguments, words: str) -> None:
    assert _run(tasks.capture, "t-2", **arguments) is None
    [kept] = _unfiled(here)
    assert kept["event_id"] == "t-2"
    assert words in str(kept["refused"])
    assert {**kept["payload"]}.items() >= arguments.items()
    assert sum(service.counts(here).values()) == 0


def test_one_bad_message_of_many_holds_up_none_of_the_others(here: Engine) -> None:
    huge = "x" * (here.settings.dead_letters.max_body_bytes + 1)
    many = [{"message": 1}, {"message": 2, "confirm": "maybe"}, {"message": huge}, {"message": 3}]
    assert _run(tasks.capture_many, "t-3", many) == ["t-3:0", "t-3:3"]
    assert {kept["event_id"] for kept in _unfiled(here)} == {"t-3:1", "t-3:2"}


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (tasks.capture, {"message": 1}),
        (tasks.capture_many, {"messages": [{"message": 1}]}),
        (tasks.settle, {"attempt": "L:T"}),
        (tasks.record_failure, {"attempt": "L:T"}),
    ],
)
def test_while_the_database_is_away_the_message_goes_back_to_the_broker(
    here: Engine, monkeypatch: pytest.MonkeyPatch, task, arguments
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(here.database, "run", away)
    with pytest.raises(Reject) as caught:
        task.__wrapped__(**arguments) if not task.__bound__ else task.run(**arguments)
    assert caught.value.requeue is True


def test_on_a_full_disk_one_capture_that_needs_a_file_holds_up_none_of_the_others(here: Engine) -> None:
    here.settings.home.mkdir(parents=True, exist_ok=True)
    Path(here.settings.home, "unfiled").write_text("in the way of the folder")
    group = [_gathered("t-1"), _gathered("t-2", confirm="maybe"), _gathered("t-3")]
    assert keep_together(group) == [ALONE] * 3
    with pytest.raises(Reject) as caught:
        tasks.capture_together([tasks.Call("t-2", {"message": 1, "confirm": "maybe"})])
    assert caught.value.requeue is True
    assert _run(tasks.capture, "t-1", 1) == "t-1"


def test_on_a_full_disk_one_of_many_that_needs_a_file_holds_up_none_of_the_others(here: Engine) -> None:
    here.settings.home.mkdir(parents=True, exist_ok=True)
    in_the_way = Path(here.settings.home, "unfiled")
    in_the_way.write_text("of the folder")
    many = [{"message": 1}, {"message": 2, "confirm": "maybe"}, {"message": 3}]
    tasks.capture_many.push_request(id="t-3")
    with pytest.raises(Reject) as caught:
        tasks.capture_many.run(many)
    tasks.capture_many.pop_request()
    assert caught.value.requeue is True
    assert service.known_events(here, ["t-3:0", "t-3:1", "t-3:2"]) == {"t-3:0", "t-3:2"}
    in_the_way.unlink()
    assert _run(tasks.capture_many, "t-3", many) == ["t-3:0", "t-3:2"]
    assert [kept["event_id"] for kept in _unfiled(here)] == ["t-3:1"]
    assert [letter.seen for letter in service.list_letters(here)] == [1, 1]


def test_the_scheduled_redrive_leaves_a_row_and_says_when_the_broker_was_away(
    here: Engine, clock: Clock, post: Post
) -> None:
    _run(tasks.capture, "t-4", {"task": "shop.charge", "queue": "shop"})
    clock.advance(60)
    post.away = True
    assert _run(tasks.process_dead_letter_queue_batch)["released"] == 1
    assert jobs.latest(here)["process_dead_letter_queue_batch"].outcome == "partial"
    post.away = False
    clock.advance(60)
    assert _run(tasks.process_dead_letter_queue_task, "t-5", batch_size=5)["dispatched"] == 1
    assert jobs.latest(here)["process_dead_letter_queue_batch"].outcome == "succeeded"


def test_one_letter_is_retried_at_once_and_only_when_it_can_be(here: Engine, post: Post) -> None:
    _run(tasks.capture, "t-6", {"task": "shop.charge", "queue": "shop"})
    assert _run(tasks.retry_message, "t-7", "t-6", actor="ann") is True
    assert len(post.home) == 1
    with pytest.raises(TransitionRefusedError):
        _run(tasks.retry_message, "t-8", "t-6")


def test_letters_are_listed_without_bodies_and_fences(here: Engine) -> None:
    _run(tasks.capture, "t-6", {"task": "shop.charge", "queue": "shop"})
    [row] = _run(tasks.get_dlq_messages, "t-9", limit=5)
    assert row["state"] == "pending"
    assert "lease_token" not in row
    assert json.dumps(row), "plain JSON values"


def test_listed_errors_are_redacted(here: Engine) -> None:
    told = {
        "class": "E",
        "message": "password=hunter2",
        "traceback": "url = https://ann:hunter2@shop.example",
    }
    _run(tasks.capture, "t-6", {"task": "shop.charge", "queue": "shop"}, error=told)
    [row] = _run(tasks.get_dlq_messages, "t-9", limit=5)
    assert "hunter2" not in json.dumps(row)


def test_settled_letters_are_purged_on_schedule(here: Engine, clock: Clock) -> None:
    _run(tasks.capture, "t-6", {"task": "shop.charge", "queue": "shop"})
    service.discard(here, "t-6", actor="ann", reason="test")
    clock.advance(8 * 86400)
    assert _run(tasks.cleanup_old_dlq_messages)["purged"] == 1
    assert jobs.latest(here)["cleanup_old_dlq_messages"].outcome == "succeeded"


def test_the_ledgers_job_fails_when_the_books_do_not_balance(here: Engine) -> None:
    _run(tasks.capture, "t-6", {"task": "shop.charge", "queue": "shop"})
    assert _run(tasks.fold_dead_letter_ledger)["accepted"] == 1
    assert jobs.latest(here)["fold_dead_letter_ledger"].outcome == "succeeded"
    with here.database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM dead_letters"))
    assert _run(tasks.fold_dead_letter_ledger)["unbalanced"]
    assert jobs.latest(here)["fold_dead_letter_ledger"].outcome == "failed"


def test_a_parcel_that_nobody_can_read_is_kept_as_a_file_once(here: Engine) -> None:
    for _ in range(2):
        _run(tasks.receive, "t-1", {"source": "s", "of a later version": True})
    (found,) = _unfiled(here)
    assert found["payload"] == {"source": "s", "of a later version": True}


def test_what_goes_back_in_an_outage_is_not_taken_for_what_kills_workers(
    here: Engine, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis.from_url(redis_url)
    here.__dict__["redis"] = client

    def away(*_: object) -> None:
        raise StoreUnavailableError("the database is away")

    monkeypatch.setattr(service, "settle", away)
    for _ in range(20):
        redeliveries.count(client, "t-7:0")
        _run(tasks.settle, "t-7", "letter:token")
    assert redeliveries.count(client, "t-7:0") == 1

"""A message is let go when its failure is kept, never before; one bad failure holds up none of the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from regrow.celery.capturing import FIRST_PAUSE, LONGEST_PAUSE, TRIES, Capturer, Ended, Told
from regrow.celery.messages import Failure, RawMessage, failure_of
from regrow.celery.sinks import BrokerSink, entry_of
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.spool_entries import Outcome
from regrow.errors import LetterRefusedError, SpoolUnavailableError, StoreUnavailableError
from tests.dead_letters.conftest import Post
from tests.waiting import eventually


def failure(name: str, body: bytes = b"[]") -> Failure:
    raw = RawMessage(body, {"task": "t", "id": name}, "application/json", "utf-8", "q")
    return failure_of("failed", raw, ValueError(name))


def names(told: Sequence[Told]) -> list[str]:
    return [each.attempt if isinstance(each, Ended) else str(each.message.task_id) for each in told]


class Store:
    """A sink that keeps batches; ``fail`` may raise for one."""

    def __init__(self, fail: Callable[[Sequence[Told]], None]) -> None:
        self.fail = fail
        self.kept: list[list[str]] = []

    def mark(self, attempts: object) -> None: ...

    def keep(self, told: Sequence[Told]) -> None:
        self.fail(told)
        self.kept.append(names(told))


def test_all_that_wait_are_kept_together_and_let_go_when_they_are_kept(tmp_path: Path) -> None:
    go, order = threading.Event(), []

    def fail(_: Sequence[Told]) -> None:
        order.append("asked")
        go.wait(10)

    store = Store(fail)
    capturer = Capturer(store, tmp_path)
    for number in range(5):
        capturer.submit(failure(str(number)), lambda number=number: order.append(number))
        eventually(lambda: order == ["asked"])
    go.set()
    eventually(lambda: len(order) == 7)
    assert order == ["asked", 0, "asked", 1, 2, 3, 4]
    assert store.kept == [["0"], ["1", "2", "3", "4"]]


@pytest.mark.parametrize("away", [StoreUnavailableError("the broker is away"), SpoolUnavailableError("full")])
def test_while_nothing_can_be_kept_nothing_is_let_go_however_long(tmp_path: Path, away: Exception) -> None:
    pauses: list[float] = []
    done = threading.Event()

    def fail(_: Sequence[Told]) -> None:
        assert not done.is_set()
        if len(pauses) < 30:
            raise away

    store = Store(fail)
    Capturer(store, tmp_path, sleep=pauses.append).submit(failure("a"), done.set)
    assert done.wait(10)
    assert store.kept == [["a"]]
    assert (pauses[0], pauses[1], pauses[-1]) == (FIRST_PAUSE, FIRST_PAUSE * 2, LONGEST_PAUSE)


def test_a_failure_that_cannot_be_kept_becomes_a_file_and_the_others_go_on(tmp_path: Path) -> None:
    go, done = threading.Event(), []

    def fail(told: Sequence[Told]) -> None:
        go.wait(10)
        if "bad" in names(told):
            raise LetterRefusedError("not as it is")

    store, pauses = Store(fail), []
    capturer = Capturer(store, tmp_path, sleep=pauses.append)
    for name in ("first", "good", "bad", "better"):
        capturer.submit(failure(name, b"\xff"), lambda name=name: done.append(name))
    go.set()
    eventually(lambda: done == ["first", "good", "bad", "better"])
    assert store.kept == [["first"], ["good"], ["better"]]
    assert len(pauses) == TRIES - 1
    (file,) = (tmp_path / "unfiled").glob("*.json")
    assert json.loads(file.read_text())["payload"]["message"]["body"] == "/w=="


def test_many_travel_in_one_message_and_outcomes_beside_them() -> None:
    post = Post()
    told = [failure("a"), Ended("l:1"), failure("b"), Ended("l:2"), Ended("l:3", failure("c"))]
    BrokerSink(post).keep(told)
    assert [task.rsplit(".", 1)[-1] for task, _, _ in post.sent] == [
        "settle_many",
        "record_failure",
        "capture_many",
    ]
    assert {queue for _, _, queue in post.sent} == {"regrow.capture"}
    entries = [entry_of(each) for each in told]
    assert [type(entry) for entry in entries] == [Capture, Outcome, Capture, Outcome, Outcome]
    assert [entry.error for entry in entries if isinstance(entry, Outcome)] == [None, None, "ValueError: c"]

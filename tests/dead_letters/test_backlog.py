"""A backlog longer than one run's budget goes on at once, in one line of runs."""

from __future__ import annotations

from typing import Any

import pytest

import tasks.dead_letters
from regrow.dead_letters import service
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from tests.dead_letters.conftest import Clock, Post, call, free


class Sent:
    """A sender that notes what it is told to send, or is away."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.away = False

    def send(self, task: str, kwargs: dict[str, Any], *, queue: str) -> None:
        if self.away:
            raise StoreUnavailableError("the broker is away")
        assert (task, queue) == (tasks.dead_letters.process_dead_letter_queue_batch.name, "regrow.redrive")
        self.runs.append(kwargs)


@pytest.fixture
def sent(engine: Engine) -> Sent:
    engine.sender = sent = Sent()  # type: ignore[assignment]
    return sent


def test_a_run_says_what_its_budget_left_over(letters: Engine, clock: Clock, post: Post) -> None:
    for _ in range(5):
        service.capture(letters, call(max_retries=1))
    clock.advance(60)

    def elapsed() -> float:
        return 1e6 if len(post.home) >= 2 else 0.0

    done = service.process_batch(letters, 1, held=free, elapsed=elapsed)
    assert (done["dispatched"], done["unfinished"]) == (2, 1)
    done = service.process_batch(letters, held=free)
    assert (done["unfinished"], len(post.home)) == (0, 5)


def test_one_line_of_runs_goes_on_and_no_second_one_beside_it(engine: Engine, sent: Sent) -> None:
    assert service.go_on(engine, 50, None)
    line = sent.runs[0]["line"]
    assert sent.runs == [{"batch_size": 50, "line": line}]
    assert not service.go_on(engine, 50, None), "the next tick of the schedule begins no second line"
    assert service.go_on(engine, 50, line)
    assert len(sent.runs) == 2


def test_a_line_that_died_is_forgotten_in_time(engine: Engine, sent: Sent) -> None:
    service.go_on(engine, None, None)
    left = engine.redis.ttl("regrow:redrive:line")
    assert 0 < left <= 2 * engine.settings.dead_letters.drain_budget + 1


def test_without_the_broker_the_schedule_goes_on(engine: Engine, sent: Sent) -> None:
    sent.away = True
    assert not service.go_on(engine, None, None)

"""``regrow.celery.install`` in an app of somebody else: its failures become letters, come home and settle."""

from __future__ import annotations

import celery
import pytest

import regrow.celery
from regrow.celery.consumer import PoisonGuard
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, beat, ready, running, worker


def test_what_fails_in_another_app_becomes_letters_comes_home_and_settles_once(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url)
    foreign = Program(
        around,
        ["-A", "tests.worker.foreign", "worker", "-n", "foreign@test", "-c", "1", "--loglevel=INFO"],
        around.home / "foreign.log",
    )
    around.traces.set("broken", 1)
    with running(worker(around)) as program, running(foreign), running(beat(around)):
        ready(program)
        ready(foreign)
        for number in range(3):
            around.send("foreign.pay", f"bill{number}", queue="foreign")
        around.publish(b"[1]", "application/json", {"task": "foreign.pay", "id": "poison"}, queue="foreign")
        eventually(lambda: len(around.letters()) == 4, 30, what="three failures and one poison")
        letters = {letter["task_id"]: letter for letter in around.letters()}
        assert letters.pop("poison")["state"] == "quarantined"
        assert {letter["error_class"] for letter in letters.values()} == {"ValueError"}
        assert {letter["queue"] for letter in letters.values()} == {"foreign"}
        around.traces.delete("broken")
        for number in range(3):
            eventually(
                lambda name=f"bill{number}": around.ended(name) == 1, 40, what="redriven to its own app"
            )
        eventually(lambda: states(around) == ["quarantined", "resolved", "resolved", "resolved"], 20)
        assert [around.ended(f"bill{number}") for number in range(3)] == [1, 1, 1]


def states(around) -> list[str]:
    return sorted(letter["state"] for letter in around.letters())


def test_install_after_the_first_connection_says_so(redis_url: str) -> None:
    app = celery.Celery("late", broker=redis_url, set_as_current=False)
    app.send_task("anything")
    with pytest.raises(regrow.celery.TooLateError, match="call it where the app is made"):
        regrow.celery.install(app)


def test_install_twice_is_install_once_and_keeps_the_apps_own_consumer(redis_url: str) -> None:
    app = celery.Celery("twice", broker=redis_url, set_as_current=False)
    regrow.celery.install(app)
    guarded = app.conf.worker_consumer
    regrow.celery.install(app)
    assert app.conf.worker_consumer is guarded
    assert issubclass(guarded, PoisonGuard)
    assert issubclass(guarded, celery.worker.consumer.Consumer)

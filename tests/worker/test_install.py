"""``regrow.celery.install`` in an app of somebody else: its failures become letters, come home and settle."""

from __future__ import annotations

import subprocess
import sys

import celery
import pytest

import regrow.celery
from regrow import log_events
from regrow.celery.consumer import PoisonGuard
from regrow.errors import SettingsError
from regrow.log_events import EventLog
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import beat, foreign, ready, running, worker


def test_what_fails_in_another_app_becomes_letters_comes_home_and_settles_once(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url)
    app = foreign(around)
    around.traces.set("broken", 1)
    with running(worker(around)) as program, running(app), running(beat(around)):
        ready(program)
        ready(app)
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


def test_a_redriven_task_that_runs_past_its_deadline_is_not_sent_a_second_time(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    """Its worker says that it has it in hand, and what waits behind it is seen in its queue."""
    around = surroundings(
        broker_url,
        REGROW_DEAD_LETTERS__OUTCOME_DEADLINE="1",
        REGROW_DEAD_LETTERS__COPY_PATIENCE="600",  # RabbitMQ tells no more than that the queue is not empty
        REGROW_SCHEDULE__PROCESS_DEAD_LETTER_QUEUE_BATCH="1",
    )
    app = foreign(around)
    around.traces.set("broken", 1)
    with running(worker(around)) as program, running(app), running(beat(around)):
        ready(program)
        ready(app)
        names = [f"bill{number}" for number in range(8)]  # more than the prefetch takes in hand
        for name in names:
            around.send("foreign.pay", name, queue="foreign")
        eventually(lambda: len(around.letters()) == len(names), 30, what="eight failures")
        around.traces.set("stuck", 1)
        around.traces.delete("broken")
        eventually(
            lambda: all(around.holds(letter["id"]) >= 2 for letter in around.letters()),
            60,
            what="each was waited for twice",
        )
        assert sum(around.began(name) for name in names) == len(names) + 1
        around.traces.delete("stuck")
        eventually(lambda: states(around) == ["resolved"] * len(names), 30)
        assert [around.ended(name) for name in names] == [1] * len(names)
        assert {letter["attempts"] for letter in around.letters()} == {1}


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


ONLY_CELERY_AND_REDIS = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"structlog", "sqlalchemy", "pydantic", "pymysql", "alembic", "psutil", "httpx"}:
            raise ImportError(name)


sys.meta_path.insert(0, Missing())
import celery, regrow.celery, regrow.dead_letters

app = celery.Celery("light", broker="memory://")
regrow.celery.install(app, spool=sys.argv[1])
regrow.configure(spool=sys.argv[1], broker_url="memory://")
print(regrow.dead_letters.capture({"a": 1}, error=ValueError("no"), message_type="t"))
"""


def test_an_app_needs_celery_and_redis_and_nothing_else(tmp_path) -> None:
    arguments = [sys.executable, "-c", ONLY_CELERY_AND_REDIS, str(tmp_path / "spool")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()[0]) == 36


@pytest.mark.parametrize("structured", [True, False])
def test_an_event_says_why_whatever_the_format_of_the_log(structured, caplog, monkeypatch) -> None:
    monkeypatch.setattr(log_events, "_structured", lambda: structured)
    EventLog("regrow.test").critical("spool.full", spool="/var/spool", error="redis://me:secret@host is away")
    (record,) = caplog.records
    if structured:
        assert (record.getMessage(), record.spool) == ("spool.full", "/var/spool")
    else:
        assert record.getMessage() == "spool.full spool=/var/spool error=redis://***@host is away"


def test_install_refuses_a_spool_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    app = celery.Celery("refused", broker="memory://", set_as_current=False)
    with pytest.raises(SettingsError, match="cannot be written"):
        regrow.celery.install(app, spool=tmp_path / "file" / "spool")

"""What the check of workers says of real ones: wedged, saturated, stopped, cut off, without a heartbeat."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import Any

import celery
import pytest

from regrow.celery.asking import OWN_EXCHANGE, asking
from regrow.health.checks import probe_of
from regrow.health.rules import Finding
from regrow.settings.checks import CeleryBeatCheck, CeleryWorkerCheck
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, Surroundings, beat, ready, running, worker

QUICK = {"REGROW_CELERY__WATCHDOG_TIMEOUT": "12"}
"""Heartbeats come every 2 s."""


class Timeline:
    """Prints what happened, in seconds from the last fault (``pytest -s``); docs/health.md quotes it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def fault(self, what: str) -> None:
        self._began = time.monotonic()
        self.say(what)

    def say(self, what: str) -> None:
        if what != self._last:
            self._last = what
            print(f"{time.monotonic() - self._began:5.1f} s  {what}")


class Look:
    """Probes until it sees what a test waits for."""

    def __init__(self, settings, **declared: Any) -> None:
        given = {"kind": "celery_worker", "timeout": 8.0, "stuck_after": 2.0, "backlog": 5, **declared}
        self.check = CeleryWorkerCheck.model_validate(given)
        self.settings = settings
        self.found: Finding | None = None
        self.timeline = Timeline()

    def now(self) -> Finding:
        self.found = probe_of(self.check, self.settings)()
        self.timeline.say(f"{self.found.data['verdict']} ({self.found.status})")
        return self.found

    def until(self, verdict: str, said: str = "", seconds: float = 40) -> Finding:
        def seen() -> bool:
            found = self.now()
            return found.data["verdict"] == verdict and said in found.message

        with contextlib.suppress(AssertionError):
            eventually(seen, seconds)
        assert self.found is not None
        assert self.found.data["verdict"] == verdict, self.found
        assert said in self.found.message, self.found
        return self.found


def remote(around: Surroundings, exchange: str = OWN_EXCHANGE) -> celery.Celery:
    app = celery.Celery(broker=around.broker_url, set_as_current=False)
    app.conf.control_exchange = exchange
    return app


def test_a_worker_that_gets_on_is_healthy_then_saturated_then_wedged_with_its_ping_green_all_along(
    surroundings: MakeSurroundings, broker_url: str, make_settings
) -> None:
    around = surroundings(broker_url, **QUICK)
    look = Look(make_settings(around.redis_url, CELERY_BROKER_URL=broker_url))
    with running(worker(around)) as program:
        ready(program)
        assert look.until("healthy", "1 alive: worker@test").status == "healthy"
        for number in range(60):
            around.send("test.work", f"short{number}", 0.3)
        saturated = look.until("saturated", "it gets on, but")
        assert saturated.status == "degraded"
        remote(around).control.purge()
        for number in range(8):
            around.send("test.work", f"long{number}", 600)
        look.timeline.fault("both children in a task of ten minutes, six more wait")
        wedged = look.until("wedged", "all 2 of its children are busy")
        assert wedged.status == "unhealthy"
        (evidence,) = wedged.data["workers"]
        assert (evidence["pong"], evidence["state"]) == (True, "running"), "green for whoever asks no more"
        assert (evidence["pool"], evidence["active"]) == (2, 2)
        assert evidence["waits"] >= 5
        assert evidence["progress"] >= 2
        assert evidence["stalled"] >= 2


def test_a_worker_that_takes_no_more_is_wedged_and_one_that_was_stopped_is_dead(
    surroundings: MakeSurroundings, make_settings
) -> None:
    around = surroundings(**QUICK)
    look = Look(make_settings(around.redis_url), max_age=7)
    with running(worker(around)) as program:
        ready(program)
        look.until("healthy")
        control = remote(around).control
        control.cancel_consumer("regrow.capture", destination=["worker@test"])
        deserted = look.until("healthy", "no worker takes from regrow.capture")
        assert deserted.status == "unhealthy"
        for queue in ("regrow.control", "regrow.redrive"):
            control.cancel_consumer(queue, destination=["worker@test"])
        look.timeline.fault("the worker takes from no queue, a message waits")
        around.send("test.work", "nobody")
        stopped = look.until("wedged", "it takes from no queue")
        assert (stopped.status, stopped.data["workers"][0]["pong"]) == ("unhealthy", True)
        assert stopped.data["workers"][0]["queues"] == []
        look.timeline.fault("SIGSTOP")
        program.signal(signal.SIGSTOP)
        dead = look.until("dead", "no sign of life for")
        assert (dead.status, dead.data["workers"][0]["pong"]) == ("unhealthy", False)


def test_without_its_broker_a_worker_is_unknown_and_not_dead(
    surroundings: MakeSurroundings, own_redis: RedisServer, make_settings
) -> None:
    around = surroundings(broker_url=own_redis.url, **QUICK)
    look = Look(make_settings(around.redis_url, CELERY_BROKER_URL=own_redis.url))
    with running(worker(around)) as program:
        ready(program)
        look.until("healthy")
        look.timeline.fault("the broker is killed")
        own_redis.kill()
        found = look.now()
        assert (found.status, found.data["verdict"]) == ("unknown", "unknown"), found
        assert "the broker does not answer" in found.message
        look.until("unknown", "it cannot reach its broker")


def foreign(around: Surroundings) -> Program:
    arguments = ["-A", "tests.worker.foreign", "worker", "-n", "foreign@test", "-c", "1", "--loglevel=INFO"]
    return Program(around, arguments, around.home / "foreign.log")


@pytest.fixture
def of_app(make_settings, monkeypatch, redis_url):
    """Looks at the workers of another app, on the same broker."""

    def of_app(around: Surroundings, **declared: Any) -> Look:
        settings = make_settings(around.redis_url, CELERY_BROKER_URL=around.broker_url)
        return Look(settings, app="foreign", queues=["foreign"], **declared)

    return of_app


def test_another_apps_worker_has_a_heartbeat_when_it_knows_where_redis_is(
    surroundings: MakeSurroundings, of_app
) -> None:
    around = surroundings(**QUICK)
    with running(foreign(around)) as program:
        ready(program)
        look = of_app(around)
        found = look.until("healthy", "1 alive: foreign@test")
        assert found.data["workers"][0]["state"] == "running"
        told = json.loads(around.traces.get("regrow:{heartbeat}:worker:foreign:foreign@test") or "{}")
        assert (told["app"], told["queues"], told["pool"]) == ("foreign", ["foreign"], 1)
        program.signal(signal.SIGTERM)
        assert program.wait(20) == 0
        assert not around.traces.exists("regrow:{heartbeat}:worker:foreign:foreign@test")


def test_without_a_heartbeat_another_apps_worker_is_asked_and_still_found_wedged(
    surroundings: MakeSurroundings, of_app
) -> None:
    around = surroundings(REGROW_REDIS_URL="")
    with running(foreign(around)) as program:
        ready(program)
        assert of_app(around).now().data["verdict"] == "healthy", "whoever answers"
        look = of_app(around, nodes=["foreign@test", "gone@test"])
        found = look.now()
        assert (found.status, found.data["workers"][1]["verdict"]) == ("degraded", "dead")
        for number in range(3):
            around.send("foreign.sleep", f"bill{number}", queue="foreign")
        wedged = look.until("wedged", "all 1 of its children are busy")
        assert wedged.data["workers"][0]["pong"] is True


def test_a_beat_that_answers_is_not_taken_for_a_worker(surroundings: MakeSurroundings, tmp_path) -> None:
    around = surroundings(**QUICK)
    arguments = [
        "-A",
        "tests.worker.foreign",
        "beat",
        "--enable-remote-control",
        "-s",
        str(tmp_path / "schedule"),
    ]
    with (
        running(Program(around, arguments, around.home / "beat.log")),
        asking(around.broker_url, "celery", 3) as asker,
    ):
        eventually(lambda: asker._ask("ping", [], 1.0), 30, what="beat answers a ping")
        assert asker.found(1.0) == set()


def test_a_beat_that_hangs_or_sends_nothing_is_stalled_and_one_that_was_killed_is_dead(
    surroundings: MakeSurroundings, make_settings
) -> None:
    around = surroundings(REGROW_CELERY__WATCHDOG_TIMEOUT="18", TEST_FREEZES="1")
    settings = make_settings(around.redis_url)
    probe = probe_of(CeleryBeatCheck(kind="celery_beat", max_age=5.0), settings)

    timeline = Timeline()

    def says(status: str, verdict: str, said: str) -> bool:
        found = probe()
        timeline.say(f"{found.data['verdict']} ({found.status})")
        return (found.status, found.data["verdict"], said in found.message) == (status, verdict, True)

    with running(beat(around)) as program:
        eventually(lambda: says("healthy", "ticking", "1 alive"), 40, every=0.5, what="it ticks")
        timeline.fault("beat ticks and sends nothing")
        around.traces.set("idle", 1)
        stalled = "ticks, and has sent nothing for"
        eventually(lambda: says("unhealthy", "stalled", stalled), 40, every=0.5, what="it sends nothing")
        around.traces.delete("idle")
        eventually(lambda: says("healthy", "ticking", "1 alive"), 40, every=0.5, what="it sends again")
        timeline.fault("beat hangs in a tick")
        around.traces.set("freeze", 1)
        stalled = "the process lives, but has not ticked for"
        eventually(lambda: says("unhealthy", "stalled", stalled), 40, every=0.5, what="it hangs")
        timeline.fault("beat is killed")
        program.signal(signal.SIGKILL)
        eventually(lambda: says("unhealthy", "dead", "no sign of life"), 40, every=0.5, what="it is gone")

"""A worker that ends acknowledges what is kept at the last moment, when its event loop turns no more."""

from __future__ import annotations

import signal
import uuid
from typing import Any

import psutil
from kombu import Connection

from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, Surroundings, ready, running

CALL = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
QUEUE = "patient"


def send(around: Surroundings, task: str, **headers: Any) -> None:
    whole = {"lang": "py", "task": task, "id": str(uuid.uuid4()), **headers}
    around.publish(CALL, "application/json", whole, queue=QUEUE)


def test_what_is_kept_after_the_loop_has_ended_is_acknowledged(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url)
    traces = around.traces
    traces.delete("asked", "go", "kept", "paid")
    arguments = ["-A", "tests.worker.patient", "worker", "-c", "2", "--loglevel=INFO"]
    with running(Program(around, arguments, around.home / "patient.log")) as program:
        ready(program)
        children = psutil.Process(program.pid).children()
        send(around, "patient.gone")
        send(around, "patient.pay", **{"regrow-letter": "letter:token"})
        eventually(lambda: traces.get("paid") == "1" and traces.get("asked") == "1")
        program.signal(signal.SIGTERM)
        eventually(lambda: not any(child.is_running() for child in children), 20, what="the pool has ended")
        assert traces.lrange("kept", 0, -1) == []
        traces.set("go", 1)
        assert program.wait(30) == 0
    assert traces.lrange("kept", 0, -1) == ["regrow.celery.messages.UnknownTaskError", "letter:token"]
    assert traces.hlen("unacked") == 0
    with Connection(broker_url) as connection:
        left = connection.channel().basic_get(QUEUE)
        connection.channel().queue_delete(QUEUE)
    assert left is None, left.headers

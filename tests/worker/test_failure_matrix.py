"""Every way a task can end for good, on real prefork workers and both brokers: captured whole, acknowledged.

The matrix is printed (``pytest -s``); docs/celery.md shows it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import celery
import psutil
import pytest
from kombu import Connection

from regrow.dead_letters.settled_marks import mark_key
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, Surroundings, ready, running

QUEUE = "matrix"
JSON = "application/json"
CALL = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AGO = "2020-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Case:
    """One message, and the error its letter must name. ``says``: words of its traceback."""

    error: str
    task: str = "matrix.fail.early"
    body: bytes = CALL
    headers: dict[str, Any] = field(default_factory=dict)
    content_type: str = JSON
    encoding: str = "utf-8"
    identity: bool = True
    says: str = ""
    state: str = "pending"


ENDED = {
    "exception": Case("ValueError", "fail", says="in fail"),
    "wrong arguments": Case("TypeError", "kill", body=CALL.replace(b"[[]", b"[[1, 2, 3]"), says="TypeError"),
    "retries exhausted": Case("OSError", "retry", says="in retry"),
    "soft time limit": Case(
        "SoftTimeLimitExceeded", "sleep", headers={"timelimit": [20, 0.5]}, says="in sleep"
    ),
    "hard time limit": Case("TimeLimitExceeded", "sleep", headers={"timelimit": [0.7, None]}),
    "unserialisable result": Case("EncodeError", "unserialisable", says="EncodeError"),
    "before_start raises": Case("RuntimeError", "unready", says="in before_start"),
    "result backend away": Case("ValueError", "backendless", says="in fail"),
    "SIGKILL, as by the OOM killer": Case("WorkerLostError", "kill"),
    "os._exit": Case("WorkerLostError", "leave"),
    "SIGSEGV": Case("WorkerLostError", "crash"),
    "sys.exit": Case("SystemExit", "sys_exit"),
    "KeyboardInterrupt": Case("KeyboardInterrupt", "interrupt"),
    "other BaseException": Case("Odd", "odd", says="in odd"),
    "Reject(requeue=False)": Case("Reject", "reject"),
    "MemoryError": Case("MemoryError", "exhaust", says="in exhaust"),
}
"""How a task that ran can end; each with early and with late acknowledgement."""

NOT_RUN = {
    "expired": Case("TaskExpiredError", headers={"expires": AGO}),
    "revoked": Case(
        "TaskRevokedError",
        headers={"stamps": {"tenant": "gone"}, "stamped_headers": ["tenant"]},
        state="quarantined",
    ),
    "unregistered task": Case("UnknownTaskError", "matrix.gone", state="quarantined"),
    "undecodable body": Case("DecodeError", body=b'{"half": ', state="quarantined"),
    "content type not accepted": Case(
        "ContentDisallowed",
        body=b"\x80\x04K\x01.",
        content_type="application/x-python-serialize",
        encoding="binary",
        state="quarantined",
    ),
    "body no list of three": Case("BrokenMessageError", body=b'["a", "b"]', state="quarantined"),
    "kwargs no object": Case("BrokenMessageError", body=b"[[], [], {}]", state="quarantined"),
    "no id": Case("BrokenMessageError", identity=False, state="quarantined"),
    "foreign message": Case(
        "BrokenMessageError", task="", body=b'{"order": 1}', identity=False, state="quarantined"
    ),
    "ETA no time": Case("InvalidTaskError", headers={"eta": "tomorrow"}, state="quarantined"),
    "ETA beyond time": Case("Reject", headers={"eta": "9999-12-31T23:59:59.999999-12:00"}),
}
"""What no child ever sees."""

CASES = {
    **{
        f"{name} ({ack})": Case(**{**case.__dict__, "task": f"matrix.{case.task}.{ack}"})
        for name, case in ENDED.items()
        for ack in ("early", "late")
    },
    **NOT_RUN,
}


@pytest.fixture
def around(surroundings: MakeSurroundings, broker_url: str) -> Iterator[Surroundings]:
    made = surroundings(broker_url)
    _empty(broker_url)
    yield made
    _empty(broker_url)


def _empty(broker_url: str) -> None:
    with Connection(broker_url) as connection:
        connection.channel().queue_delete(QUEUE)


def matrix(around: Surroundings, name: str = "matrix", concurrency: int = 4) -> Program:
    arguments = ["-A", "tests.worker.matrix", "worker", "-n", f"{name}@test", "-c", str(concurrency)]
    return Program(around, [*arguments, "--loglevel=INFO"], around.home / f"{name}.log", forked=True)


def publish(around: Surroundings, name: str, case: Case) -> None:
    headers = {"lang": "py", "name": name, "traceparent": TRACE, **case.headers}
    if case.task:
        headers["task"] = case.task
    if case.identity:
        headers["id"] = str(uuid.uuid4())
    around.publish(case.body, case.content_type, headers, case.encoding, queue=QUEUE)


def left_behind(around: Surroundings) -> list[str]:
    """Tasks that the broker has; of Redis also those in a worker's hand, which RabbitMQ does not tell."""
    if around.broker_url.startswith("redis"):
        waiting = around.traces.lrange(QUEUE, 0, -1)
        in_hand = [json.loads(kept)[0] for kept in around.traces.hgetall("unacked").values()]
        return [f"waits: {_task(raw)}" for raw in waiting] + [f"in hand: {_task(raw)}" for raw in in_hand]
    with Connection(around.broker_url) as connection:
        channel = connection.channel()
        count = channel.queue_declare(QUEUE, passive=True).message_count
        return [str(channel.basic_get(QUEUE).headers) for _ in range(count)]


def _task(raw: str | dict[str, Any]) -> str:
    message = json.loads(raw) if isinstance(raw, str) else raw
    return " ".join(str(message["headers"].get(key)) for key in ("name", "task", "retries"))


def succeeded(program: Program, ending: str) -> list[str]:
    lines = program.output().splitlines()
    return [line for line in lines if f"matrix.{ending}." in line and " succeeded in " in line]


def acknowledged(around: Surroundings) -> list[bool]:
    """Of each running task, whether the broker has let go of it."""
    with celery.Celery(broker=around.broker_url, set_as_current=False) as app:
        workers = app.control.inspect(timeout=10, limit=1).active() or {}
    return [task["acknowledged"] for tasks in workers.values() for task in tasks]


def by_name(around: Surroundings) -> dict[str, dict[str, Any]]:
    return {json.loads(letter["headers"])["name"]: letter for letter in around.letters()}


def test_every_ending_is_captured_whole_once_and_acknowledged(around: Surroundings) -> None:
    with running(matrix(around)) as program:
        ready(program)
        revoke_by_stamp(around)
        for name, case in CASES.items():
            publish(around, name, case)
        # A copy of a letter that another one has settled is acknowledged without being run.
        around.traces.set(mark_key("settled"), 1)
        publish(around, "copy", Case("", "matrix.fail.late", headers={"regrow-letter": "settled:token"}))
        for ending in ("ignore", "once_again"):  # not for good: no letter
            for ack in ("early", "late"):
                publish(around, ending, Case("", f"matrix.{ending}.{ack}"))
        eventually(
            lambda: not set(CASES) - set(by_name(around)),
            90,
            what="every ending has its letter",
        )
        letters = by_name(around)
        rows = [_row(name, case, letters[name]) for name, case in CASES.items()]
        print(_table(around, rows))
        assert [row for row in rows if "NO" in row] == []
        assert set(letters) == set(CASES)
        assert len(around.letters()) == len(CASES), "one event each, however many hooks saw it"
        eventually(lambda: len(succeeded(program, "once_again")) == 2, what="what is no ending has run on")
        assert program.says("letter.copy_skipped")
        assert program.alive()
        program.signal(signal.SIGTERM)
        assert program.wait(30) == 0
        if left_behind(around):
            print(program.output())
    assert left_behind(around) == [], "all of them are acknowledged"


def revoke_by_stamp(around: Surroundings) -> None:
    """Tell the worker before the task is sent; a stamp, because the message's id is made later."""
    with celery.Celery(broker=around.broker_url, set_as_current=False) as app:
        answer = app.control.revoke_by_stamped_headers({"tenant": ["gone"]}, reply=True, timeout=10, limit=1)
    assert answer


def _row(name: str, case: Case, letter: dict[str, Any]) -> list[str]:
    headers = json.loads(letter["headers"])
    origin = [letter[column] for column in ("queue", "routing_key", "broker", "code_version", "traceparent")]
    facts = {
        "error": letter["error_class"].endswith(case.error),
        "body": bytes(letter["body"]) == case.body and letter["content_type"] == case.content_type,
        "headers": all(headers.get(key) == value for key, value in case.headers.items()),
        "traceback": case.says in (letter["traceback"] or "") and bool(letter["traceback"]),
        "origin": origin == [QUEUE, QUEUE, "main", "v7", TRACE],
        "state": letter["state"] == case.state,
    }
    told = ["yes" if held else "NO" for held in facts.values()]
    return [name, letter["error_class"].rsplit(".", 1)[-1], *told]


def _table(around: Surroundings, rows: list[list[str]]) -> str:
    head = ["how it ended", "error kept", "error", "body", "headers", "traceback", "origin", "state"]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        for row in [head, *rows]
    ]
    return "\n".join([f"\n{around.broker_url.split(':', 1)[0]}:", *lines])


def test_a_main_process_that_is_killed_loses_what_it_had_acknowledged_and_nothing_else(
    around: Surroundings,
) -> None:
    """Early acknowledgement has let go of the message when its task begins: there is nothing left to keep."""
    # Longer than the task may take: Redis gives a message to somebody else after that time, at work or not.
    around.more["TEST_VISIBILITY"] = "8"
    with running(matrix(around, "first", 2)) as first:
        ready(first)
        for ack in ("early", "late"):
            publish(around, ack, Case("", f"matrix.sleep.{ack}", headers={"timelimit": [2, None]}))
        eventually(lambda: sorted(acknowledged(around)) == [False, True], what="both are running")
        children = first.children()
        first.signal(signal.SIGKILL)
        first.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    with running(matrix(around, "second", 2)) as second:
        ready(second)
        eventually(lambda: by_name(around), 40, what="what the broker still had is captured")
        (name, letter) = by_name(around).popitem()
        assert (name, letter["error_class"].rsplit(".", 1)[-1]) == ("late", "TimeLimitExceeded")
        second.signal(signal.SIGTERM)
        assert second.wait(30) == 0
    assert list(by_name(around)) == ["late"]
    assert left_behind(around) == []

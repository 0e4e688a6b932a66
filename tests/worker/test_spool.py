"""An app with a spool: what it accepted survives its own death and a broker that forgot everything."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from pathlib import Path

import redis

from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import beat, foreign, ready, running, worker

ACCEPTED = (b"bill0", b"bill1", b"bill2", b"task:poison")


def kept(spool: Path) -> bytes:
    return b"".join(file.read_bytes() for file in spool.rglob("*.log"))


def test_accepted_failures_outlive_the_app_and_a_flushed_broker_and_settle_through_the_spool(
    surroundings: MakeSurroundings, own_redis
) -> None:
    around = surroundings(redis=own_redis.url)
    spool = around.home / "spool"
    app = dataclasses.replace(around, more={**around.more, "REGROW_SPOOL": str(spool)})
    broker = redis.Redis.from_url(around.broker_url)
    around.traces.set("broken", 1)

    with running(foreign(app, "first")) as first:
        ready(first)
        for number in range(3):
            around.send("foreign.pay", f"bill{number}", queue="foreign")
        around.publish(b"[1]", "application/json", {"task": "foreign.pay", "id": "poison"}, queue="foreign")
        # Acknowledged before they run: what is not in the spool yet would die with the app.
        eventually(
            lambda: all(name in kept(spool) for name in ACCEPTED), 40, what="all four are in the spool"
        )
        eventually(lambda: broker.llen("regrow.capture") >= 1, what="sent to Regrow, where nobody listens")
        eventually(lambda: broker.hlen("unacked") == 0 and broker.llen("foreign") == 0, what="acknowledged")
        first.signal(signal.SIGKILL)
        first.wait()
    broker.flushall()

    with contextlib.ExitStack() as stack:  # one after the other: starting is what takes the time
        ready(stack.enter_context(running(worker(around))))
        second = stack.enter_context(running(foreign(app, "second")))
        ready(second)
        stack.enter_context(running(beat(around)))
        eventually(lambda: second.says("spool.adopted"), what="the dead process's source has a new owner")
        eventually(lambda: len(around.letters()) == 4, 30, what="three failures and one poison")
        assert {bytes(letter["body"]) for letter in around.letters()} >= {b"[1]"}
        around.traces.delete("broken")
        eventually(
            lambda: (
                sorted(letter["state"] for letter in around.letters())
                == ["quarantined", "resolved", "resolved", "resolved"]
            ),
            60,
            what="redriven, and settled through the spool",
        )
        eventually(lambda: not list(spool.rglob("*.log")), what="all of it was received, nothing is kept")
        assert [around.ended(f"bill{number}") for number in range(3)] == [1, 1, 1]
        second.signal(signal.SIGTERM)
        assert second.wait(20) == 0
    assert list(spool.iterdir()) == []

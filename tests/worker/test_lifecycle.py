"""Beginning and end of a worker: the gate, the drain, a main process killed."""

from __future__ import annotations

import json
import signal
import time
from queue import Empty

import psutil
import pytest
from kombu import Connection

from tests.servers import MariaServer, RedisServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import beat, foreign, ready, running, worker


def test_sigterm_lets_the_task_in_hand_finish_and_exits_0(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url)
    with running(worker(around, forked=False)) as program:
        ready(program)
        around.send("test.work", "long", 4)
        eventually(lambda: around.began("long") == 1)
        program.signal(signal.SIGTERM)
        around.send("test.work", "too late")
        eventually(lambda: around.heartbeat()["state"] == "draining")
        assert program.wait(20) == 0
        assert around.ended("long") == 1
        assert around.began("too late") == 0
        assert program.says("drain.started")
        assert program.says("drain.finished")
        assert not program.says("drain.not_recorded")
        (told,) = map(json.loads, around.traces.lrange("regrow:{drain}:ended", 0, -1))
        assert (told["process"], told["in_hand_at_start"], told["timed_out"]) == ("worker", 1, False)
        assert not (around.home / "run" / "worker.heartbeat").exists()
        assert not around.traces.exists("regrow:{heartbeat}:worker:worker@test")


@pytest.mark.parametrize(
    ("late", "when"), [("", "just before"), ("1", "just before"), ("1", "while it ends")]
)
def test_the_outcome_of_the_last_task_is_told_and_its_message_acknowledged_before_a_worker_ends(
    surroundings: MakeSurroundings, broker_url: str, late: str, when: str
) -> None:
    """A redriven task ends during the drain, or has ended and its outcome is still being kept when it begins."""
    around = surroundings(broker_url, TEST_ACKS_LATE=late, TEST_SLOW_SINK="1.5")
    around.traces.delete("began:bill", "ended:bill")
    app = foreign(around)
    headers = {"task": "foreign.pay", "id": "bill", "regrow-letter": "letter:token"}
    with running(app):
        ready(app)
        around.traces.set("stuck", 1)
        around.publish(b'[["bill"], {}, {}]', "application/json", headers, queue="foreign")
        eventually(lambda: around.began("bill") == 1)
        if when == "while it ends":
            app.signal(signal.SIGTERM)
            eventually(lambda: app.says("Warm shutdown"))
            around.traces.delete("stuck")
        else:
            around.traces.delete("stuck")
            eventually(lambda: around.ended("bill") == 1)
            app.signal(signal.SIGTERM)
        assert app.wait(30) == 0
    with Connection(broker_url) as connection:
        told = connection.SimpleQueue("regrow.capture").get(timeout=5)
        assert told.headers["task"] == "regrow.dead_letters.settle"
        told.ack()
        with pytest.raises(Empty):
            connection.SimpleQueue("foreign").get(block=False)
        assert not around.traces.hlen("unacked"), "acknowledged, and not to be put back by the next one"


def test_a_drain_that_takes_too_long_gives_its_task_back_to_the_queue(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url, SHUTDOWN_TIMEOUT="1")
    with running(worker(around)) as program:
        ready(program)
        around.send("test.work", "long", 60)
        eventually(lambda: around.began("long") == 1)
        program.signal(signal.SIGTERM)
        asked = time.monotonic()
        assert program.wait(20) == 0
        assert 1 < time.monotonic() - asked < 10
        assert program.says("drain.timed_out")
        assert not program.says("drain.finished")
        (told,) = map(json.loads, around.traces.lrange("regrow:{drain}:ended", 0, -1))
        assert (told["in_hand"], told["timed_out"]) == (1, True)
    with running(worker(around, "second")) as second:
        ready(second)
        eventually(lambda: around.began("long") == 2, 15, what="the next worker gets it")


def test_a_main_process_killed_leaves_no_child_and_loses_no_task(
    surroundings: MakeSurroundings, broker_url: str
) -> None:
    around = surroundings(broker_url, REGROW_CELERY__VISIBILITY_TIMEOUT="6")
    with running(worker(around)) as program:
        ready(program)
        around.send("test.work", "running", 2)
        eventually(lambda: around.began("running") == 1)
        children = program.children()
        assert len(children) == 2
        program.signal(signal.SIGKILL)
        program.wait(5)
        eventually(lambda: not any(map(alive, children)), 5, what="the children are gone")
    with running(worker(around, "second")) as second:
        ready(second)
        eventually(lambda: around.ended("running") == 1, 25, what="the task is delivered again")
        assert around.began("running") == 2


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_worker_waits_for_its_database_says_so_and_goes_on_by_itself(
    surroundings: MakeSurroundings, own_mysql: MariaServer
) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=own_mysql.port, user="root") as connection:
        connection.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    own_mysql.kill()
    around = surroundings(REGROW_DATABASE_URL=own_mysql.url("regrow"), DEPENDENCY_CHECK_INTERVAL="0.3")
    with running(worker(around)) as program:
        eventually(lambda: program.says("startup.waiting"), what="it says that it waits")
        assert "dependency=database" in program.output()
        assert not program.says(" ready.")
        own_mysql.start()
        ready(program)


def test_a_worker_or_beat_that_waited_in_vain_says_for_what_and_fails(
    surroundings: MakeSurroundings, own_redis: RedisServer
) -> None:
    around = surroundings(redis=own_redis.url, STARTUP_TIMEOUT="1", DEPENDENCY_CHECK_INTERVAL="0.3")
    own_redis.kill()
    with running(worker(around, forked=False)) as program, running(beat(around, forked=False)) as scheduler:
        for one in (program, scheduler):
            assert one.wait(60) == 69
            assert "waited 1 s for redis, in vain" in one.output()
            assert "STARTUP_TIMEOUT" in one.output()
            assert "Traceback" not in one.output()

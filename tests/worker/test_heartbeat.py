"""The heartbeat: what it says, and that a frozen loop is told from a broker that is away."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from regrow.health.checks import heartbeats
from regrow.redis import connect
from regrow.settings import Settings
from tests.servers import RedisServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import ready, running, worker
from worker.heartbeat import FROZEN_EXIT, Heart, Patience, Watchdog


def test_a_frozen_loop_ends_the_process_and_leaves_its_stacks(surroundings: MakeSurroundings) -> None:
    around = surroundings(REGROW_CELERY__WATCHDOG_TIMEOUT="3", TEST_FREEZES="1")
    with running(worker(around)) as program:
        ready(program)
        around.send("test.work", "before")
        eventually(lambda: around.ended("before") == 1)
        around.traces.set("freeze", 1)
        assert program.wait(15) == FROZEN_EXIT
        assert program.says("heartbeat.frozen")
        assert "_look" in program.output(), "the dump names the frame that froze"


def test_an_absent_broker_is_no_frozen_loop(surroundings: MakeSurroundings, own_redis: RedisServer) -> None:
    around = surroundings(broker_url=own_redis.url, REGROW_CELERY__WATCHDOG_TIMEOUT="2")
    with running(worker(around)) as program:
        ready(program)
        own_redis.kill()
        eventually(lambda: around.heartbeat()["state"] == "broker_away")
        away_since = time.time()
        eventually(
            lambda: around.heartbeat()["at"] > away_since + 4, 15, what="pulses through twice the limit"
        )
        key = "regrow:{heartbeat}:worker:worker@test"
        eventually(lambda: json.loads(around.traces.get(key) or "{}").get("state") == "broker_away")
        own_redis.start()
        eventually(lambda: around.heartbeat()["state"] == "running", 40)
        assert program.alive()
        assert 500 < around.traces.ttl(key) <= 600


def test_a_process_that_was_stopped_for_longer_than_the_limit_goes_on(surroundings: MakeSurroundings) -> None:
    around = surroundings(REGROW_CELERY__WATCHDOG_TIMEOUT="3")
    with running(worker(around)) as program:
        ready(program)
        program.signal(signal.SIGSTOP)
        stopped = time.time()
        eventually(lambda: time.time() - stopped > 5, 10)
        program.signal(signal.SIGCONT)
        around.send("test.work", "after")
        eventually(lambda: around.ended("after") == 1, 30)
        assert program.alive()


def test_patience_is_counted_in_glances_not_by_the_clock() -> None:
    patience = Patience(limit=3, glance=1)
    assert [patience.exhausted(pulses) for pulses in (1, 1, 1, 2, 2, 2)] == [False] * 6
    assert [patience.exhausted(2) for _ in range(2)] == [True, True]


def test_the_file_is_one_line_of_json_and_is_replaced_whole(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "run" / "worker.heartbeat", "worker", "name", "node")
    heart.beat("running")
    before = (tmp_path / "run" / "worker.heartbeat").stat().st_ino
    heart.beat("broker_away")
    line = (tmp_path / "run" / "worker.heartbeat").read_text()
    assert line.endswith("\n")
    assert json.loads(line) == {
        "at": round(heart.last.at, 3),
        "pid": os.getpid(),
        "node": "node",
        "state": "broker_away",
    }
    assert (tmp_path / "run" / "worker.heartbeat").stat().st_ino != before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["worker.heartbeat"]


def test_a_new_state_is_told_at_once_and_the_same_one_every_few_seconds(
    tmp_path: Path, make_settings, redis_url: str
) -> None:
    heart = Heart(tmp_path / "worker.heartbeat", "worker", "name", "node")
    client = connect(redis_url)
    watchdog = Watchdog(heart, make_settings(), lambda: client)
    watchdog.every = 3600

    def told(state: str) -> str:
        heart.beat(state)
        watchdog._publish()
        (line,) = heartbeats.of_kind(client, "worker", time.time())
        return line.state

    assert [told("starting"), told("running")] == ["starting", "running"]
    heartbeats.withdraw(client, "worker", "name")
    watchdog._publish()
    assert heartbeats.of_kind(client, "worker", time.time()) == [], "not again so soon"
    client.close()


def test_a_redis_that_is_away_neither_stops_the_watchdog_nor_hides_a_frozen_heart(
    tmp_path: Path, make_settings
) -> None:
    settings: Settings = make_settings(REGROW_CELERY__WATCHDOG_TIMEOUT="0.2")
    ended: list[int] = []
    heart = Heart(tmp_path / "beat.heartbeat", "beat", "name", "node")
    away = connect("redis://127.0.0.1:1/0")
    watchdog = Watchdog(heart, settings, lambda: away, end=ended.append)
    watchdog.GLANCE = 0.05
    watchdog.start()
    try:
        eventually(lambda: FROZEN_EXIT in ended, 5)
    finally:
        watchdog.stop()

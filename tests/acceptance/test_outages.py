"""Stores go away and come back under load: everything goes on by itself, and nothing accepted is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from regrow import jobs
from regrow.celery import CelerySender
from regrow.database.tables import capture_events
from regrow.dead_letters import capture, send_through, service
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from tests.acceptance.conftest import Deployment
from tests.servers import MariaServer, RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.slow


class Load:
    """Captures as fast as the broker takes them; ``accepted`` are the events the broker said yes to."""

    def __init__(self, broker_url: str) -> None:
        self.accepted: list[str] = []
        self.refused = 0
        self._going = threading.Event()
        self._broker_url = broker_url

    @contextmanager
    def running(self) -> Iterator[None]:
        send_through(CelerySender.from_broker(self._broker_url, {"socket_timeout": 2}))
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._going.set()
            thread.join()
            send_through(None)

    def _run(self) -> None:
        while not self._going.wait(0.005):
            try:
                self.accepted.append(capture({"n": len(self.accepted)}, message_type="load"))
            except StoreUnavailableError:
                self.refused += 1


def _runs_since(engine: Engine, moment: datetime) -> set[str]:
    return {run.job for run in jobs.latest(engine).values() if run.started_at > moment}


def _missing(engine: Engine, accepted: list[str]) -> set[str]:
    with engine.database.snapshot() as connection:
        kept = connection.execute(sa.select(capture_events.c.event_id)).scalars().all()
    return set(accepted) - set(kept)


def test_redis_killed_and_restarted_under_load_is_survived(
    deploy: Callable[..., Deployment], own_redis: RedisServer, mysql_url: str
) -> None:
    regrow = deploy(own_redis.url, mysql_url)
    worker, beat = regrow.start_worker(), regrow.start_beat()
    eventually(lambda: "health_check_monitoring" in jobs.latest(regrow.engine), 60, what="jobs run")
    pids = (worker.pid, beat.pid)

    load = Load(own_redis.url)
    with load.running():
        eventually(lambda: len(load.accepted) > 50, what="load")
        own_redis.kill()
        time.sleep(3)  # the outage itself
        own_redis.start()
        back = datetime.now(UTC)
        eventually(
            lambda: (
                {"health_check_monitoring", "monitor_circuit_breakers"} <= _runs_since(regrow.engine, back)
            ),
            90,  # seconds on a machine with little else to do
            what="jobs run again",
        )
    eventually(
        lambda: not _missing(regrow.engine, load.accepted),
        30,
        what=f"all {len(load.accepted)} accepted captures kept\n{worker.tail()}",
    )
    assert load.refused > 0, "the outage was felt"
    for process, pid in ((worker, pids[0]), (beat, pids[1])):
        assert process.process is not None
        assert process.process.poll() is None, f"{process.name} ended instead of waiting:\n{process.tail()}"
        assert process.pid == pid


def test_the_database_killed_and_restarted_under_load_loses_nothing(
    deploy: Callable[..., Deployment], redis_url: str, own_mysql: MariaServer
) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=own_mysql.port, user="root") as admin:
        admin.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    regrow = deploy(redis_url, own_mysql.url("regrow"))
    worker = regrow.start_worker()
    load = Load(redis_url)
    with load.running():
        eventually(lambda: len(load.accepted) > 50, what="load")
        own_mysql.kill()
        at_kill = len(load.accepted)
        eventually(lambda: len(load.accepted) > at_kill + 100, what="the broker goes on accepting")
        own_mysql.start()
    eventually(
        lambda: not _missing(regrow.engine, load.accepted),
        60,
        what=f"all {len(load.accepted)} accepted captures kept\n{worker.tail()}",
    )
    assert sum(service.counts(regrow.engine).values()) == len(load.accepted)


def test_start_up_waits_for_the_database_says_so_and_goes_on_when_it_comes(
    deploy: Callable[..., Deployment], redis_url: str, own_mysql: MariaServer
) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=own_mysql.port, user="root") as admin:
        admin.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
    regrow = deploy(redis_url, own_mysql.url("regrow"))
    own_mysql.kill()
    worker = regrow.start("worker", ["-m", "celery", "-A", "worker", "worker", "-c", "1", "-l", "INFO"])
    eventually(
        lambda: "database" in worker.tail() and "wait" in worker.tail(), 30, what="it says what it waits for"
    )
    assert worker.process is not None
    assert worker.process.poll() is None
    own_mysql.start()
    regrow.wait_for_heartbeat("worker", worker)
    event = _capture_once(redis_url)
    eventually(lambda: not _missing(regrow.engine, [event]), 30, what="it works")


def _capture_once(broker_url: str) -> str:
    send_through(CelerySender.from_broker(broker_url, {}))
    try:
        return capture({"n": 1}, message_type="load")
    finally:
        send_through(None)

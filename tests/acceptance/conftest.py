"""A whole Regrow of real processes on a broker and a database, and an app beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from regrow.engine import Engine
from regrow.health.checks import heartbeats
from regrow.settings import load_settings
from tests.acceptance.processes import Process, clean_environ
from tests.waiting import eventually


@dataclass
class Deployment:
    """Where everything is, and every process that runs."""

    folder: Path
    environ: dict[str, str]
    engine: Engine
    processes: list[Process] = field(default_factory=list)

    def start(self, name: str, command: list[str], **environ: str) -> Process:
        log = self.folder / f"{name}.log"
        process = Process(name, command, clean_environ(**self.environ, **environ), log).start()
        self.processes.append(process)
        return process

    def start_worker(self) -> Process:
        worker = self.start("worker", ["-m", "celery", "-A", "worker", "worker", "-c", "2", "-l", "INFO"])
        self.wait_for_heartbeat("worker", worker)
        return worker

    def start_beat(self) -> Process:
        return self.start("beat", ["-m", "celery", "-A", "worker", "beat", "-l", "INFO"])

    def start_shop(self, tally: str) -> Process:
        return self.start(
            "shop",
            ["-m", "celery", "-A", "tests.acceptance.shop", "worker", "-c", "2", "-l", "WARNING"],
            **self.shop_environ(tally),
        )

    def shop_environ(self, tally: str) -> dict[str, str]:
        return {
            "SHOP_BROKER_URL": self.environ["CELERY_BROKER_URL"],
            "SHOP_REDIS_URL": self.environ["REGROW_REDIS_URL"],
            "SHOP_TALLY": tally,
        }

    def wait_for_heartbeat(self, kind: heartbeats.Kind, process: Process) -> None:
        """That its loop runs: Celery's main ends by itself when a child is killed while its pool starts."""

        def runs() -> bool:
            assert process.process is not None
            if process.process.poll() is not None:
                raise AssertionError(f"{process.name} ended:\n{process.tail()}")
            told = heartbeats.of_kind(self.engine.redis, kind, time.time())
            return any(one.state == "running" and one.told.get("pid") == process.pid for one in told)

        eventually(runs, 60, what=f"a heartbeat of {kind} that runs")

    def close(self) -> None:
        for process in self.processes:
            process.close()
        self.engine.close()


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    made: list[Deployment] = []

    def make(redis_url: str, database_url: str, broker_url: str | None = None) -> Deployment:
        environ = {
            "REGROW_PROFILE": "testing",
            "REGROW_HOME": str(tmp_path / "home"),
            "REGROW_REDIS_URL": redis_url,
            "REGROW_DATABASE_URL": database_url,
            "CELERY_BROKER_URL": broker_url or redis_url,
            "CELERY_RESULT_BACKEND": redis_url,
        }
        deployment = Deployment(tmp_path, environ, Engine(load_settings(environ=environ)))
        made.append(deployment)
        deployment.engine.database.upgrade()
        return deployment

    yield make
    for deployment in made:
        deployment.close()


@pytest.fixture
def tally(redis_url: str) -> Callable[[str], dict[str, int]]:
    def read(name: str) -> dict[str, int]:
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            return {order: int(times) for order, times in client.hgetall(name).items()}

    return read

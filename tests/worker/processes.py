"""Real workers and beats as subprocesses, on settings of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import redis
from kombu import Connection

from tests.servers import child_options
from tests.waiting import eventually
from tests.worker.nursery import Forked, nursery

ROOT = Path(__file__).parents[2]


@dataclass
class Surroundings:
    """What a worker under test stands on: broker, Redis for live state and traces, database, home."""

    home: Path
    redis_url: str
    broker_url: str
    traces_url: str
    more: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("REGROW_", "CELERY_"))
            },
            "PYTHONPATH": str(ROOT),
            "REGROW_PROFILE": "testing",
            "REGROW_HOME": str(self.home),
            "REGROW_REDIS_URL": self.redis_url,
            "CELERY_BROKER_URL": self.broker_url,
            "CELERY_RESULT_BACKEND": self.redis_url,
            "REGROW_DATABASE_URL": f"sqlite:///{self.home / 'regrow.sqlite3'}",
            "TEST_TRACES": self.traces_url,
            "REGROW_CELERY__CONCURRENCY": "2",
            **self.more,
        }

    @property
    def traces(self) -> redis.Redis:
        return redis.Redis.from_url(self.traces_url, decode_responses=True)

    def began(self, name: str) -> int:
        return int(self.traces.llen(f"began:{name}"))

    def ended(self, name: str) -> int:
        return int(self.traces.llen(f"ended:{name}"))

    def heartbeat(self, kind: str = "worker") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "run" / f"{kind}.heartbeat").read_text())
        return found

    def letters(self) -> list[dict[str, Any]]:
        """What the store has captured, oldest first."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.home / "regrow.sqlite3")) as database:
            database.row_factory = sqlite3.Row
            rows = database.execute(
                "SELECT l.*, b.body, b.headers, b.content_type FROM dead_letters l LEFT JOIN dead_letter_bodies b"
                " ON b.letter_id = l.id ORDER BY l.id"
            )
            return [dict(row) for row in rows]

    def holds(self, letter_id: str) -> int:
        """How often it was late, and no copy was sent."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.home / "regrow.sqlite3")) as database:
            query = "SELECT COALESCE(SUM(holds), 0) FROM dead_letter_attempts WHERE letter_id = ?"
            return int(database.execute(query, (letter_id,)).fetchone()[0])

    def job_runs(self, job: str) -> int:
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.home / "regrow.sqlite3")) as database:
            return int(database.execute("SELECT COUNT(*) FROM job_runs WHERE job = ?", (job,)).fetchone()[0])

    def send(self, task: str, *args: object, queue: str = "regrow.control", **options: Any) -> str:
        """Send a task as an app would that knows nothing but its name."""
        import celery

        with celery.Celery(broker=self.broker_url, set_as_current=False) as app:
            app.conf.broker_transport_options = {"confirm_publish": True}
            app.conf.task_queues = None
            sent = app.send_task(task, args=args, queue=queue, **options)
            return str(sent.id)

    def publish(
        self,
        body: bytes,
        content_type: str,
        headers: dict[str, Any],
        encoding: str = "utf-8",
        queue: str = "regrow.control",
    ) -> None:
        """Put any bytes into the queue as a well-formed broker message."""
        with Connection(self.broker_url) as connection, connection.Producer() as producer:
            producer.publish(
                body,
                routing_key=queue,
                content_type=content_type,
                content_encoding=encoding,
                headers=headers,
            )


@dataclass
class Program:
    """A running ``celery -A ... worker`` or ``beat``; its output goes to ``log``."""

    surroundings: Surroundings
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | Forked | None = None
    _: KW_ONLY
    forked: bool = False
    """At once, from the nursery; else as a process that imports all anew."""

    def start(self) -> Self:
        if self.forked and sys.platform == "linux":
            self.process = nursery().fork(self.arguments, self.surroundings.environment(), self.log)
            return self
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *self.arguments],
                cwd=ROOT,
                env=self.surroundings.environment(),
                stdout=log,
                stderr=log,
                **child_options(),
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        assert self.process is not None
        return self.process.poll() is None

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def says(self, text: str) -> bool:
        return text in self.output()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def close(self) -> None:
        if self.process is not None and self.alive():
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(program: Program) -> Iterator[Program]:
    program.start()
    try:
        yield program
    except BaseException:
        print(program.output()[-12000:])
        raise
    finally:
        program.close()


def worker(surroundings: Surroundings, name: str = "worker", *, forked: bool = True) -> Program:
    arguments = ["-A", "tests.worker.app", "worker", "-n", f"{name}@test", "--loglevel=INFO"]
    return Program(surroundings, arguments, surroundings.home / f"{name}.log", forked=forked)


def beat(surroundings: Surroundings, name: str = "beat", *, forked: bool = True) -> Program:
    arguments = ["-A", "tests.worker.app", "beat", "--loglevel=INFO"]
    return Program(surroundings, arguments, surroundings.home / f"{name}.log", forked=forked)


def foreign(surroundings: Surroundings, name: str = "foreign") -> Program:
    """A worker of another app, with one child. It imports no more than such an app does."""
    arguments = ["-A", "tests.worker.foreign", "worker", "-n", f"{name}@test", "-c", "1", "--loglevel=INFO"]
    return Program(surroundings, arguments, surroundings.home / f"{name}.log")


def ready(program: Program) -> None:
    eventually(lambda: program.says(" ready.") or not program.alive(), 40, what="the worker is ready")
    assert program.alive(), program.output()[-4000:]

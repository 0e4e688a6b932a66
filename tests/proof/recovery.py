"""A trip of recovery on real processes: an app behind a breaker, its backend, a worker, beat, Valkey, MariaDB.

``python -m tests.proof.recovery`` plays it with the intervals of production (but for ``RECOVERY_INTERVAL=10``) and
prints what happened when. The tests play it with those of the testing profile.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from regrow.breakers import CircuitBreaker
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.reporter import Reporter
from regrow.database import Database
from regrow.engine import Engine
from regrow.errors import CircuitOpenError, StoreUnavailableError
from regrow.recovery import service
from regrow.recovery.store import Attempt
from regrow.settings import load_settings
from tests.acceptance.processes import Process, clean_environ
from tests.servers import MariaServer, RedisServer, child_options, free_port
from tests.waiting import eventually

TOML = """
[health.checks.model-server]
kind = "http"
url = "http://127.0.0.1:{port}/"
timeout = 1
enabled = false                     # for tests alone

[recovery.services.model-server]
kind = "command"
argv = ["sh", "-c", "echo the host refuses >&2; exit 1"]
check = ""
settle = 0

[recovery.services.slow]
kind = "command"
argv = ["sh", "-c", "echo begun $$ >> {marks}; sleep 100"]
breaker = "slow"
test = "model-server"
timeout = {slow}
settle = 0
"""


@dataclass
class Trip:
    """Where everything is. ``more``: TOML beside ours; ``say`` is called with what happened, as it happens."""

    folder: Path
    environ: dict[str, str]
    slow: float = 15.0
    more: str = ""
    say: Callable[[str], None] = lambda _told: None
    backend: subprocess.Popen[bytes] | None = None
    reporter: Reporter | None = None
    processes: list[Process] = field(default_factory=list)
    calls: list[tuple[float, str]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self.port = free_port()
        self.marks = self.folder / "marks"
        toml = (
            TOML.format(port=self.port, marks=self.marks, slow=self.slow).replace('check = ""\n', "")
            + self.more
        )
        file = self.folder / "regrow.toml"
        file.write_text(toml)
        self.environ["REGROW_CONFIG"] = str(file)
        self.engine = Engine(load_settings(file, environ=self.environ))
        self.engine.database.upgrade()
        self.start_backend()
        self.start_process("beat", "beat")
        self.worker = self.start_worker()
        self.reporter = Reporter(RedisStore.from_url(self.environ["REGROW_REDIS_URL"]))
        self.breaker = CircuitBreaker("model-server", recovery_timeout=600, timeout=5, reporter=self.reporter)
        threading.Thread(target=self._call, daemon=True).start()

    def start_process(self, name: str, *command: str) -> Process:
        whole = ["-m", "celery", "-A", "worker", *command, "-l", "INFO"]
        log = self.folder / f"{name}.log"
        process = Process(name, whole, clean_environ(**self.environ), log).start()
        self.processes.append(process)
        return process

    def start_worker(self) -> Process:
        known = self.folder / "worker.log"
        before = known.read_text().count(" ready.") if known.exists() else 0
        worker = self.start_process("worker", "worker", "-c", "3")
        eventually(lambda: known.read_text().count(" ready.") > before, 90, what="the worker is ready")
        return worker

    def start_backend(self) -> None:
        self.backend = subprocess.Popen(
            [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **child_options(),
        )
        eventually(self._answers, 30)

    def kill_backend(self) -> None:
        assert self.backend is not None
        self.backend.kill()
        self.backend.wait()

    def history(self, name: str) -> list[Attempt]:
        """Attempts, oldest first."""
        return list(reversed(service.history(self.engine, name)))

    def outcomes(self, name: str) -> list[str | None]:
        return [one.outcome for one in self.history(name)]

    def close(self) -> None:
        self._ended.set()
        for process in self.processes:
            process.close()
        if self.backend is not None:
            self.backend.kill()
            self.backend.wait()
        if self.reporter is not None:
            self.reporter.close()
        self.engine.close()

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def _call(self) -> None:
        """An app that calls its backend through the breaker, ten times a second."""
        while not self._ended.wait(0.1):
            try:
                self.breaker.call(self._answers)
                word = "answered"
            except CircuitOpenError:
                word = "refused"
            except OSError:
                word = "failed"
            self.calls.append((time.time(), word))

    def last_word(self) -> str:
        return self.calls[-1][1]


def outage(trip: Trip) -> dict[str, Any]:
    """The backend is killed, three attempts fail and lock, the backend comes back."""
    eventually(lambda: trip.last_word() == "answered", 30)
    began = len(trip.calls)
    killed = time.time()
    trip.kill_backend()
    trip.say("the backend is killed")
    eventually(lambda: trip.last_word() == "refused", 60)
    failed = sum(word == "failed" for _, word in trip.calls[began:])
    trip.say(f"the breaker is open, after {failed} failed calls")
    for number in (1, 2, 3):
        eventually(lambda number=number: trip.outcomes("model-server")[number - 1] == "failed", 120)
        one = trip.history("model-server")[number - 1]
        trip.say(f"attempt {one.attempt}: {one.outcome}: {one.message}")
    eventually(lambda: service.status(trip.engine)[0].state == "locked", 60)
    trip.say("locked: a person is called")
    trip.start_backend()
    back = time.time()
    trip.say("the backend is back")
    eventually(lambda: trip.last_word() == "answered", 60)
    answered = next(at for at, word in trip.calls if at > back and word == "answered")
    trip.say(f"the app is served again, {answered - back:.1f} s after the return")
    row = eventually(lambda: [one for one in trip.history("model-server") if one.kind == "test"], 30)[0]
    trip.say(f"test: {row.outcome}: {row.message}")
    eventually(lambda: service.status(trip.engine)[0].locked_at is None, 30)
    started = [one.started_at.timestamp() for one in trip.history("model-server") if one.kind != "test"]
    return {
        "failed_calls": failed,
        "opened_after": next(at for at, word in trip.calls[began:] if word == "refused") - killed,
        "pauses": [later - earlier for earlier, later in pairwise(started)],
        "back_after": answered - back,
    }


def killed_worker(trip: Trip) -> dict[str, Any]:
    """SIGKILL of the worker while a handler runs: the attempt is lost, and nothing ran twice at once."""
    trip.kill_backend()
    service.trigger(trip.engine, "slow", actor="a test", reason="to be killed")
    eventually(lambda: trip.marks.exists() and trip.marks.read_text(), 60, what="the handler runs")
    pid = int(trip.marks.read_text().split()[1])
    lease = trip.engine.settings.recovery.services["slow"]
    trip.say(f"the handler runs (pid {pid}, timeout {lease.timeout:g} s)")
    trip.worker.kill_main()
    killed = time.time()
    trip.say("the worker is killed (SIGKILL)")
    eventually(lambda: not _alive(pid), 20, what="the command ended with its worker")
    ended = time.time() - killed
    trip.say(f"its command and all it started ended {ended:.2f} s later")
    trip.worker = trip.start_worker()
    trip.say("another worker is up")
    service_status = {one.name: one for one in service.status(trip.engine)}["slow"]
    trip.say(f"slow is {service_status.state}: {service_status.why}")
    eventually(lambda: trip.outcomes("slow")[0] == "lost", 120, what="the attempt is told as lost")
    lost = trip.history("slow")[0]
    assert lost.ended_at is not None
    trip.say(f"lease over: the attempt is {lost.outcome}: {lost.message}")
    service.trigger(trip.engine, "slow", actor="a test", reason="again")
    eventually(lambda: len(trip.marks.read_text().splitlines()) == 2, 60, what="the next attempt runs")
    second = trip.history("slow")[1]
    trip.say("the next attempt runs")
    return {
        "command_ended_after": ended,
        "lost_after": lost.ended_at.timestamp() - killed,
        "apart": (second.started_at - lost.ended_at).total_seconds(),
        "ran": len(trip.marks.read_text().splitlines()),
    }


DATABASE = """
[recovery.services.shop-database]
kind = "database"
url = "{url}"
timeout = 6
"""


def database_lost(trip: Trip, server: MariaServer, *, away: float) -> dict[str, Any]:
    """The shop's own database is killed for some seconds; its calls go by a breaker and a pool of connections."""
    breaker = CircuitBreaker("shop-database", recovery_timeout=600, timeout=5, reporter=trip.reporter)
    pool = Database(server.url(), pool_size=2, pool_timeout=2.0, connect_timeout=2.0, statement_timeout=2.0)
    words: list[tuple[float, str]] = []

    def call() -> str:
        try:
            breaker.call(pool.ping)
            word = "answered"
        except CircuitOpenError:
            word = "refused"
        except (StoreUnavailableError, sa.exc.SQLAlchemyError):
            word = "failed"
        words.append((time.time(), word))
        return word

    eventually(lambda: call() == "answered", 30, every=0.1)
    began = len(words)
    server.kill()
    killed = time.time()
    trip.say("the shop's database is killed")
    eventually(lambda: call() == "refused", 60, every=0.1)
    failed = sum(word == "failed" for _, word in words[began:])
    trip.say(f"the breaker is open, after {failed} failed calls")
    eventually(lambda: time.time() - killed > away, away + 30)
    server.start()
    back = time.time()
    trip.say("the database is back")
    eventually(lambda: call() == "answered", 60, every=0.1)
    served = words[-1][0]
    trip.say(f"the shop is served again, {served - back:.1f} s after the return")
    pool.close()
    return {"failed_calls": failed, "away": back - killed, "back_after": served - back}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def main() -> None:
    began = time.time()

    def say(told: str) -> None:
        print(f"{time.time() - began:7.2f} s  {told}", flush=True)

    redis, maria = RedisServer().start(), MariaServer().start()
    with tempfile.TemporaryDirectory() as folder:
        with sa.create_engine(maria.url(), isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE regrow CHARACTER SET utf8mb4")
        environ = {
            "REGROW_PROFILE": "development",
            "REGROW_HOME": f"{folder}/home",
            "REGROW_REDIS_URL": redis.url,
            "REGROW_DATABASE_URL": maria.url("regrow"),
            "RECOVERY_INTERVAL": "10",
        }
        shop = MariaServer().start()
        trip = Trip(Path(folder), environ, say=say, more=DATABASE.format(url=shop.url()))
        try:
            trip.start()
            say("app, backend, worker, beat, Valkey, MariaDB are up")
            print(json.dumps(database_lost(trip, shop, away=30)))
            print(json.dumps(outage(trip)))
            print(json.dumps(killed_worker(trip)))
        finally:
            trip.close()
            redis.close()
            maria.close()
            shop.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()

"""What keeping and settling dead letters costs: ours on MariaDB, beside raw inserts, bare Celery and peers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pymysql

from benchmarks.peers import Missing
from benchmarks.peers.keepers import ERROR, body
from benchmarks.reach import Reach, interleaved
from regrow.dead_letters.capturing import CHUNK
from regrow.engine import Engine
from regrow.settings import load_settings
from tests.servers import MariaServer, RedisServer, child_options
from tests.waiting import eventually

ROOT = Path(__file__).parents[1]
REPETITIONS = int(os.environ.get("REGROW_BENCH_REPETITIONS", "5"))
MANY = 4_000  # letters of one run of capture_many, the raw insert, and each bookkeeping worker
SINGLE = 2_000  # messages of one run through Celery
PEERS = 1_000
TABLES = ("dead_letters", "dead_letter_bodies", "capture_events")


def measure() -> list[Reach]:
    with contextlib.ExitStack() as stack:
        maria = stack.enter_context(contextlib.closing(MariaServer().install().start()))
        broker = stack.enter_context(contextlib.closing(RedisServer().start()))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rg-bench-")))
        with pymysql.connect(host="127.0.0.1", port=maria.port, user="root") as admin:
            admin.cursor().execute("CREATE DATABASE regrow CHARACTER SET utf8mb4")
        bench = Bench(maria, broker, folder, stack)
        rates = interleaved(bench.runs(), REPETITIONS)
        bench.check()
    return _found(rates, bench)


def _found(rates: dict[str, float], bench: Bench) -> list[Reach]:
    print(f"\n{'medians of ' + str(REPETITIONS) + ' runs that took turns':46}{'letters/s':>10}")
    for name, rate in rates.items():
        print(f"{name:46}{rate:10,.0f}")
    for name, reason in bench.missing.items():
        print(f"{name:46}    not measured: {reason}")
    for line in bench.counted:
        print(line)
    found = [
        Reach("letters_capture_many_per_second", rates[CAPTURE_MANY], ">=", 5_000),
        Reach("letters_capture_many_2_workers_per_second", rates[CAPTURE_MANY_2], ">=", 5_000),
        Reach("letters_capture_many_to_raw_ratio", rates[CAPTURE_MANY] / rates[RAW], ">=", 0.6),
        Reach("letters_capture_to_noop_ratio", rates[CAPTURE] / rates[NOOP], ">=", 0.6),
        Reach("letters_bookkeeping_per_second", rates[BOOKKEEPING], ">=", 5_000),
        Reach("letters_bookkeeping_2_workers_per_second", rates[BOOKKEEPING_2], ">=", 5_000),
        Reach("letters_bookkeeping_to_bare_driver_ratio", rates[BOOKKEEPING_2] / rates[BARE_2], ">=", 0.6),
    ]
    if BALDUR in rates:
        found.append(
            Reach("letters_bookkeeping_to_baldur_ratio", rates[BOOKKEEPING] / rates[BALDUR], ">=", 1.5)
        )
    return found


RAW = "raw batched insert, the floor"
CAPTURE_MANY = "capture_many"
CAPTURE_MANY_2 = "capture_many, 2 workers"
BOOKKEEPING = "lease + settle, 1 worker"
BOOKKEEPING_2 = "lease + settle, 2 workers"
BARE_2 = "the same rows by the driver alone, 2 workers"
NOOP = "Celery, a task that does nothing, -c 2"
CAPTURE = "capture by task, -c 2"
BALDUR = "baldur-framework, create + acquire + complete"
RQ = "RQ, requeue"


@dataclass
class Bench:
    maria: MariaServer
    broker: RedisServer
    folder: Path
    stack: contextlib.ExitStack
    missing: dict[str, str] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)
    captured: int = 0
    inserted: int = 0
    settled: int = 0

    def __post_init__(self) -> None:
        self.environ = {
            "REGROW_PROFILE": "production",
            "REGROW_HOME": str(self.folder / "home"),
            "REGROW_REDIS_URL": self.broker.url,
            "REGROW_DATABASE_URL": self.maria.url("regrow"),
            "CELERY_BROKER_URL": self.broker.url,
            "CELERY_RESULT_BACKEND": self.broker.url,
            "API_KEY": "a-key-that-only-this-measurement-knows-and-that-opens-nothing",
        }
        self.engine = Engine(load_settings(environ=self.environ))
        self.engine.database.upgrade()
        self.stack.callback(self.engine.close)
        self.capturer, self.second = self.keeper("capture_many"), self.keeper("capture_many")
        self.raw = self.stack.enter_context(
            pymysql.connect(host="127.0.0.1", port=self.maria.port, user="root", database="regrow")
        )

    def runs(self) -> dict[str, Callable[[], float]]:
        runs: dict[str, Callable[[], float]] = {RAW: self.insert_raw(), CAPTURE_MANY: self.capture_many}
        runs[CAPTURE_MANY_2] = lambda: self.capture_many(2)
        runs[BOOKKEEPING] = self.bookkeeping(1)
        runs[BOOKKEEPING_2] = self.bookkeeping(2)
        runs[BARE_2] = self.bookkeeping(2, "bare_bookkeeping")
        runs[NOOP] = self.through_celery("benchmarks.peers.noop", "noop", "noop")
        runs[CAPTURE] = self.through_celery("worker", "regrow.dead_letters.capture", "regrow.capture")
        for name, keeper in ((BALDUR, "baldur"), (RQ, "rq_requeue")):
            try:
                server = self.stack.enter_context(contextlib.closing(RedisServer().start()))
                runs[name] = self.peer(keeper, server.url)
            except Missing as reason:
                self.missing[name] = str(reason)
        return runs

    def capture_many(self, workers: int = 1) -> float:
        rate, done = _together([self.capturer, self.second][:workers], MANY)
        self.captured += done
        return rate

    def insert_raw(self) -> Callable[[], float]:
        """The rows that capture_many makes, put in by the driver alone, as many to a transaction."""
        self.capture_many()
        cursor = self.raw.cursor(pymysql.cursors.DictCursor)
        models = {}
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table} LIMIT {MANY}")
            models[table] = cursor.fetchall()
        self.raw.commit()
        inserts = {table: _insert(table, list(models[table][0])) for table in TABLES}

        def run() -> float:
            fresh = {table: [dict(row) for row in models[table]] for table in TABLES}
            for letter, text, event in zip(*fresh.values(), strict=True):
                letter["id"] = text["letter_id"] = event["letter_id"] = str(uuid.uuid4())
                letter["idempotency_key"] = event["event_id"] = f"raw:{uuid.uuid4()}"
            rows = {table: [tuple(row.values()) for row in fresh[table]] for table in TABLES}
            began = time.perf_counter()
            for start in range(0, MANY, CHUNK):
                for table in TABLES:
                    cursor.executemany(inserts[table], rows[table][start : start + CHUNK])
                self.raw.commit()
            seconds = time.perf_counter() - began
            self.inserted += MANY
            return MANY / seconds

        return run

    def bookkeeping(self, workers: int, name: str = "bookkeeping") -> Callable[[], float]:
        keepers = [self.keeper(name) for _ in range(workers)]

        def run() -> float:
            self._stock(MANY * workers)
            rate, done = _together(keepers, MANY)
            self.settled += done
            return rate

        return run

    def _stock(self, wanted: int) -> None:
        """Letters that are due, captured before the time is taken."""
        cursor = self.raw.cursor()
        cursor.execute("SELECT COUNT(*) FROM dead_letters WHERE state = 'pending'")
        for _ in range(0, wanted - cursor.fetchone()[0], MANY):
            self.capture_many()
        cursor.execute(
            "UPDATE dead_letters SET due_at = created_at, `rank` = created_at WHERE state = 'pending'"
        )
        self.raw.commit()

    def keeper(self, name: str, url: str = "") -> Keeper:
        return Keeper(name, url, _environment(self.environ), self.folder / f"{name}.log", self.stack)

    def peer(self, keeper: str, url: str) -> Callable[[], float]:
        other = self.keeper(keeper, url)
        return lambda: _together([other], PEERS)[0]

    def through_celery(self, app: str, task: str, queue: str) -> Callable[[], float]:
        worker = _worker(app, self.environ, self.folder / f"{queue}.log", self.stack)

        def run() -> float:
            self._send(worker, task, queue)
            began = time.perf_counter()
            worker.send_signal(signal.SIGCONT)
            eventually(lambda: self._waiting(queue) == 0, 120, every=0.002)
            seconds = time.perf_counter() - began
            if queue == "regrow.capture":
                self.captured += SINGLE
            return SINGLE / seconds

        self._warm(worker, task, queue)
        return run

    def _warm(self, worker: subprocess.Popen, task: str, queue: str) -> None:
        self._send(worker, task, queue)
        worker.send_signal(signal.SIGCONT)
        eventually(lambda: self._waiting(queue) == 0, 120)
        if queue == "regrow.capture":
            self.captured += SINGLE

    def _send(self, worker: subprocess.Popen, task: str, queue: str) -> None:
        """Fill the queue while the worker is stopped, so that sending takes nothing from its time."""
        from celery import Celery

        worker.send_signal(signal.SIGSTOP)
        with Celery(broker=self.broker.url, set_as_current=False) as app:
            for number in range(SINGLE):
                app.send_task(
                    task,
                    kwargs={"message": body(number), "error": ERROR, "service": "bank"},
                    queue=queue,
                    ignore_result=True,
                )

    def _waiting(self, queue: str) -> int:
        with self.engine.redis.pipeline(transaction=False) as pipe:
            pipe.llen(queue).hlen("unacked").hlen("regrow.unacked")
            return sum(pipe.execute())

    def check(self) -> None:
        """What was captured is there, what was settled is settled, and once each."""
        cursor = self.raw.cursor()

        def count(what: str) -> int:
            cursor.execute(f"SELECT COUNT(*) FROM {what}")
            return int(cursor.fetchone()[0])

        there, resolved = count("dead_letters"), count("dead_letters WHERE state = 'resolved'")
        told = count("dead_letter_attempts WHERE outcome = 'succeeded'")
        events, bodies = count("capture_events"), count("dead_letter_bodies")
        expected = self.captured + self.inserted
        self.counted.append(
            f"counted after it: {there} letters, {bodies} bodies, {events} events of {expected};"
            f" {resolved} resolved, {told} attempts that succeeded, of {self.settled}"
        )
        if {there, bodies, events} != {expected} or {resolved, told} != {self.settled}:
            raise AssertionError(self.counted[-1])


def _insert(table: str, columns: list[str]) -> str:
    names, places = ", ".join(f"`{name}`" for name in columns), ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {table} ({names}) VALUES ({places})"


class Keeper:
    """A process of ``benchmarks.peers.keepers``."""

    def __init__(self, name: str, url: str, environ: dict, log: Path, stack: contextlib.ExitStack) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.peers.keepers", name, url],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                **child_options(),
            )
        stack.callback(self.process.wait)
        stack.callback(self.process.kill)
        answer = self.answer()
        if "ready" not in answer:
            raise Missing(str(answer.get("missing", "it ended without a word")))

    def ask(self, count: int) -> None:
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        return {}


def _together(keepers: list[Keeper], count: int) -> tuple[float, int]:
    """Letters a second while all work at once, by the slowest of them, and letters done."""
    for keeper in keepers:
        keeper.ask(count)
    answers = [keeper.answer() for keeper in keepers]
    done = sum(answer["done"] for answer in answers)
    return done / max(answer["seconds"] for answer in answers), done


def _environment(ours: dict[str, str]) -> dict[str, str]:
    """Nothing of this machine's settings, ours alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGROW_", "CELERY_"))}
    return {**kept, **ours}


def _worker(app: str, environ: dict, log: Path, stack: contextlib.ExitStack) -> subprocess.Popen:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", app, "worker", "-c", "2", "-l", "INFO"],
            cwd=ROOT,
            env=_environment(environ),
            stdout=output,
            stderr=output,
            **child_options(),
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    try:
        eventually(lambda: b" ready." in log.read_bytes() or process.poll() is not None, 60)
        assert process.poll() is None
    except AssertionError:
        print(log.read_text()[-3000:])
        raise
    return process

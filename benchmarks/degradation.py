"""A scripted outage: checks fail, the level follows, applications in other processes hear of it; and what asking costs.

Eight real checks (TCP), the real sweep and evaluation every half second, Valkey and SQLite. Six processes and the two
children of a Celery prefork pool watch the level a thousand times a second. In the middle of the outage Valkey is
emptied, then killed for four seconds and started again empty.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import timeit
from pathlib import Path

from benchmarks.middleware import answer_asgi, asgi_p99
from benchmarks.reach import Reach, interleaved
from regrow.degradation import service
from regrow.engine import Engine
from regrow.health import service as health
from regrow.settings import load_settings
from tests.servers import RedisServer
from tests.shipped import switched_off
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 6
ORDERS = 40

WATCHER = textwrap.dedent(
    """
    import json, os, sys, time
    import regrow

    @regrow.requires("minor", fallback=lambda error: "in its place")
    def core():
        return "itself"

    def watch(out, stop):
        last = None
        while not os.path.exists(stop):
            view = regrow.degradation.view()
            now = (str(view.level), view.known, core())
            if now != last:
                last = now
                with open(out, "a") as file:
                    file.write(json.dumps([time.time(), *now]) + "\\n")
            time.sleep(0.001)

    if __name__ == "__main__":
        watch(*sys.argv[1:])
    """
)
POOL = textwrap.dedent(
    """
    import os
    import celery, regrow
    from watcher import watch
    app = celery.Celery("pool", broker=os.environ["POOL_BROKER"])
    app.conf.task_default_queue = "pool"
    regrow.degradation.allows("anything")  # the parent asks before its pool is forked

    @app.task(name="pool.watch")
    def task(folder, stop):
        watch(os.path.join(folder, f"child-{os.getpid()}.jsonl"), stop)
    """
)


def measure() -> list[Reach]:
    return [*asking(), *outage()]


def asking() -> list[Reach]:
    """What one question, one gate and one request more cost."""
    import regrow
    from regrow import asgi, degradation

    server = RedisServer().start()
    try:
        regrow.configure(redis_url=server.url)
        engine = Engine(
            load_settings(
                environ={
                    "REGROW_PROFILE": "testing",
                    "REGROW_REDIS_URL": server.url,
                    "REGROW_DATABASE_URL": "sqlite://",
                    "REGROW_HOME": "var",
                }
            )
        )
        engine.database.upgrade()
        service.set_level(engine, "normal", actor="bench", reason="bench")
        eventually(lambda: degradation.view().known, 5)

        @regrow.requires("minor")
        def gated():
            return None

        def plain():
            return None

        def nanoseconds(what) -> float:
            return min(timeit.repeat(what, number=100_000, repeat=3)) / 100_000 * 1e9

        found = interleaved(
            {
                "level": lambda: nanoseconds(degradation.level),
                "gated": lambda: nanoseconds(gated),
                "plain": lambda: nanoseconds(plain),
                "tracking": lambda: asgi_p99(asgi.ReliabilityMiddleware(answer_asgi)),
                "paths": lambda: asgi_p99(
                    asgi.ReliabilityMiddleware(answer_asgi, degradation=degradation.Paths())
                ),
                "both": lambda: asgi_p99(
                    asgi.ReliabilityMiddleware(
                        answer_asgi, degradation=degradation.Paths(), shedding=degradation.Shedding()
                    )
                ),
            }
        )
        engine.close()
    finally:
        server.close()
    return [
        Reach("degradation_level_ns", found["level"], "<=", 1_000),
        Reach("degradation_gate_ns", found["gated"] - found["plain"], "<=", 3_000),
        Reach("degradation_paths_p99_ms", found["paths"] - found["tracking"], "<=", 0.1),
        Reach("degradation_paths_and_shedding_p99_ms", found["both"] - found["tracking"], "<=", 0.1),
    ]


class Fleet:
    """Processes that watch the level and write down what they see, each into a file of its own."""

    def __init__(self, folder: Path, url: str, broker: str) -> None:
        self.folder, self.stop = folder, folder / "stop"
        (folder / "watcher.py").write_text(WATCHER)
        (folder / "pool.py").write_text(POOL)
        environment = {
            **os.environ,
            "REGROW_REDIS_URL": url,
            "POOL_BROKER": broker,
            "PYTHONPATH": f"{folder}:{ROOT}",
        }
        self.programs = [
            subprocess.Popen(
                [sys.executable, "watcher.py", str(folder / f"process-{number}.jsonl"), str(self.stop)],
                cwd=folder,
                env=environment,
            )
            for number in range(PROCESSES)
        ]
        self.programs.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "pool",
                    "worker",
                    "-c",
                    "2",
                    "-l",
                    "ERROR",
                    "-O",
                    "fair",
                ],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        import celery

        app = celery.Celery("sender", broker=broker)
        for _ in range(2):
            app.send_task("pool.watch", [str(folder), str(self.stop)], queue="pool")
        eventually(lambda: len(list(folder.glob("*.jsonl"))) == PROCESSES + 2, 60, what="all watch")

    def seen(self) -> dict[str, list[list]]:
        return {
            file.stem: [json.loads(line) for line in file.read_text().splitlines()]
            for file in sorted(self.folder.glob("*.jsonl"))
        }

    def close(self) -> None:
        self.stop.touch()
        for program in self.programs[:-1]:
            program.wait(10)
        self.programs[-1].send_signal(signal.SIGTERM)
        self.programs[-1].wait(30)


class Services:
    """Eight services that take connections, or do not."""

    def __init__(self) -> None:
        self.sockets = [self._listening(0) for _ in range(8)]
        self.ports = [one.getsockname()[1] for one in self.sockets]

    @staticmethod
    def _listening(port: int) -> socket.socket:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
        one.listen(64)
        return one

    def fail(self, count: int) -> None:
        for one in self.sockets[:count]:
            one.close()

    def return_(self, count: int) -> None:
        for number in range(count):
            self.sockets[number] = self._listening(self.ports[number])


def outage() -> list[Reach]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, broker, services = RedisServer().start(), RedisServer().start(), Services()
        engine = Engine(
            load_settings(
                _settings(folder, services.ports),
                environ={
                    "REGROW_PROFILE": "testing",
                    "REGROW_HOME": str(folder),
                    "REGROW_REDIS_URL": server.url,
                    "REGROW_DATABASE_URL": f"sqlite:///{folder}/regrow.sqlite3",
                },
            )
        )
        engine.database.upgrade()
        fleet = None
        try:
            _until(engine, lambda level: level == "normal")
            fleet = Fleet(folder, server.url, broker.url)
            return _trip(engine, server, services, fleet)
        finally:
            if fleet is not None:
                fleet.close()
            engine.close()
            server.close()
            broker.close()


def _trip(engine: Engine, server: RedisServer, services: Services, fleet: Fleet) -> list[Reach]:
    began = time.time()
    notes: list[tuple[float, str]] = []

    def note(what: str) -> None:
        notes.append((time.time() - began, what))
        print(f"  {notes[-1][0]:6.2f} s  {what}", flush=True)

    note("all eight services answer; the level is normal")
    services.fail(6)
    note("six of eight services stop to answer")
    _until(engine, lambda level: level == "critical")
    note(f"the worker says critical: {service.status(engine).why[:60]}")
    _tick_for(engine, 1.5)
    engine.redis.flushall()
    note("Valkey is emptied")
    _tick_for(engine, 2)
    note(f"the worker went on with {service.status(engine).level}")
    server.kill()
    note("Valkey is killed")
    time.sleep(4)
    held = {stem: lines[-1][1] for stem, lines in fleet.seen().items()}
    note(f"after 4 s without it, the processes hold: {sorted(set(held.values()))}")
    server.start()
    note("Valkey is started again, empty")
    _tick_for(engine, 3)
    note(f"the worker went on with {service.status(engine).level}")
    services.return_(6)
    note("all services answer again")
    _until(engine, lambda level: level == "normal")
    note("the worker says normal")
    _tick_for(engine, 1.5)
    seen = {stem: [line for line in lines if line[0] >= began] for stem, lines in fleet.seen().items()}
    hearing = {}
    for change in service.history(engine)[:2]:
        moment = change.at.timestamp()
        heard = [next(at for at, told, *_ in lines if told == change.new) - moment for lines in seen.values()]
        hearing[change.new] = heard
        note(
            f"{change.new} was heard by all {len(heard)} processes, by the last one after {max(heard) * 1000:.0f} ms"
        )
    paths = {tuple(told for _, told, *_ in lines) for lines in seen.values()}
    note(f"what each process saw: {' and '.join(' -> '.join(path) for path in sorted(paths))}")
    wrong = sum(
        answer != ("itself" if told in {"normal", "minor"} else "in its place")
        for lines in seen.values()
        for _, told, _, answer in lines
    )
    note(f"answers of the gated call that did not fit the level seen with them: {wrong}")
    delays = _orders(engine, fleet)
    note(
        f"{ORDERS} orders by hand, heard by {len(seen)} processes: median {statistics.median(delays) * 1000:.1f} ms, "
        f"largest {max(delays) * 1000:.0f} ms"
    )
    return [
        Reach("degradation_outage_processes", len(seen), ">=", PROCESSES + 2),
        Reach("degradation_outage_wrong_paths", float(paths != {("critical", "normal")}), "<=", 0),
        Reach("degradation_outage_heard_seconds", max(max(found) for found in hearing.values()), "<=", 1.0),
        Reach("degradation_order_heard_median_ms", statistics.median(delays) * 1000, "<=", 1000),
        Reach("degradation_order_heard_max_ms", max(delays) * 1000, "<=", 1000),
    ]


def _orders(engine: Engine, fleet: Fleet) -> list[float]:
    """Seconds from an order to each process that acts on it."""
    moments = []
    for number in range(ORDERS):
        level = ("severe", "moderate")[number % 2]
        moments.append((time.time(), level))
        service.set_level(engine, level, actor="bench", reason="bench")
        time.sleep(0.25)
    delays = []
    for lines in fleet.seen().values():
        for moment, level in moments:
            delays.append(next(at for at, told, *_ in lines if told == level and at >= moment) - moment)
    return delays


def _tick(engine: Engine) -> str:
    health.run_due(engine, force=True)
    return service.evaluate(engine, health.overview(engine).checks)["level"]


def _tick_for(engine: Engine, seconds: float) -> None:
    until = time.time() + seconds
    while time.time() < until:
        _tick(engine)
        time.sleep(0.5)


def _until(engine: Engine, holds, timeout: float = 60.0) -> None:
    until = time.time() + timeout
    while not holds(_tick(engine)):
        assert time.time() < until, service.status(engine)
        time.sleep(0.5)


def _settings(folder: Path, ports: list[int]) -> Path:
    text = switched_off()
    text += "".join(
        f'[health.checks.service-{number}]\nkind = "tcp"\nhost = "127.0.0.1"\nport = {port}\ntimeout = 1\n'
        for number, port in enumerate(ports)
    )
    text += "[profiles.testing.degradation]\nworsen_after = 3\nimprove_after = 5\nhold = 20\n"
    (folder / "regrow.toml").write_text(text)
    return folder / "regrow.toml"

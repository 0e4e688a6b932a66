"""Celery programs that start at once: forked from a process that has imported what they all import.

To import Celery, SQLAlchemy and Regrow takes seconds of a processor, which is most of what a test with a real worker
costs. The nursery does it once for each process of a test run, and makes no app. What is forked from it becomes a
``celery`` with a command line, an environment, a folder and a log of its own, and ends as one does. The acceptance
tests, those that ask for it, and the apps of others, which import little, start theirs the usual way.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_IMPORTED = (
    *(
        "celery.__main__",
        "celery.bin.celery",
        "celery.apps.worker",
        "celery.apps.beat",
        "celery.events.state",
    ),
    *(
        "celery.concurrency.prefork",
        "celery.backends.redis",
        "kombu.transport.pyamqp",
        "kombu.transport.redis",
    ),
    *("pymysql", "sqlalchemy.dialects.mysql.pymysql", "sqlalchemy.dialects.sqlite.pysqlite"),
    *(
        "regrow.database.migrating",
        "regrow.alerts.service",
        "regrow.capacity.service",
        "regrow.health.service",
    ),
    *(
        "regrow.health.checks",
        "regrow.health.dead_man",
        "regrow.incidents.service",
        "regrow.recovery.service",
    ),
    *("regrow.reports.service", "regrow.requests.folding", "regrow.slo.rolling", "regrow.temp_files"),
    *("worker.beat", "worker.celery"),
)
"""Not ``tasks``: they are shared tasks, and would be those of every app."""
_MOST = 1 << 20
"""Bytes of a message between us and the nursery."""


@dataclass
class Forked:
    """What :class:`subprocess.Popen` is for a program that was forked elsewhere."""

    pid: int
    nursery: Nursery
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.nursery.ended(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.poll() is None:
            self.returncode = self.nursery.ended(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("celery", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclass
class Nursery:
    """The end of the line at which the tests are. Messages are JSON, each whole."""

    line: socket.socket
    _codes: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def start(cls) -> Nursery:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            subprocess.Popen(
                [sys.executable, "-m", "tests.worker.nursery", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
            )
        return cls(ours)

    def fork(self, arguments: list[str], environ: dict[str, str], log: Path) -> Forked:
        with self._lock:
            asked = {"arguments": arguments, "environ": environ, "log": str(log)}
            self.line.sendall(json.dumps(asked).encode())
            while True:
                if (told := self._hear(60)) is None:
                    raise AssertionError("the nursery did not answer for a minute")
                if "born" in told:
                    return Forked(told["born"], self)

    def ended(self, pid: int, timeout: float | None) -> int | None:
        """How it ended, as ``Popen.returncode`` says it; None: it still runs after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while pid not in self._codes:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if self._hear(left) is None:
                    return None
            return self._codes[pid]

    def _hear(self, timeout: float | None) -> dict[str, Any] | None:
        if not select.select([self.line], [], [], timeout)[0]:
            return None
        heard = self.line.recv(_MOST)
        if not heard:
            raise AssertionError("the nursery has ended")
        told: dict[str, Any] = json.loads(heard)
        if "ended" in told:
            self._codes[told["ended"]] = told["code"]
        return told


@functools.cache
def nursery() -> Nursery:
    """That of this process; it ends when the line does."""
    return Nursery.start()


# In the nursery ---------------------------------------------------------------------------------------------


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and tell who ended. In a child: its request. In the nursery: None, at the end."""
    heard, rung = os.pipe()
    os.set_blocking(rung, False)
    os.set_blocking(heard, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(rung, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([line, heard], [], [])
        if heard in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(heard, 4096)
            _tell_who_ended(line)
        if line in ready:
            if not (request := line.recv(_MOST)):
                return None
            if pid := os.fork():
                line.sendall(json.dumps({"born": pid}).encode())
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in (heard, rung):
                os.close(inherited)
            line.close()
            return dict(json.loads(request))


def _tell_who_ended(line: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            code = os.waitstatus_to_exitcode(found[1])
            line.sendall(json.dumps({"ended": found[0], "code": code}).encode())


def _settle_in(request: dict[str, Any]) -> None:
    """What exec and Popen do otherwise."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(request["environ"])
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    sys.argv = ["celery", *request["arguments"]]
    import faulthandler

    faulthandler.register(signal.SIGRTMIN + 1, all_threads=True)  # DEBUG


def main() -> None:
    # It does not outlive the tests.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end the line
    for name in _IMPORTED:
        importlib.import_module(name)
    import celery._state
    from celery.__main__ import main as celery_main

    assert not celery._state._get_active_apps(), "an app made here would be in every program"
    gc.collect()
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _settle_in(request)
    sys.exit(celery_main())


if __name__ == "__main__":
    main()

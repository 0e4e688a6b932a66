"""A server of an application as a process, and clients that never stop asking it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import child_options, free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


class Server:
    """``{port}`` in the command is where it listens."""

    def __init__(self, folder: Path, *command: str, **environ: str) -> None:
        self.port = free_port()
        self.trace = folder / "trace"
        self.log = folder / "log"
        self._command = [part.format(port=self.port) for part in command]
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        self._environ = {**kept, "SHOP_TRACE": str(self.trace), "PYTHONUNBUFFERED": "1", **environ}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                cwd=ROOT,
                env=self._environ,
                stdout=log,
                stderr=log,
                **child_options(),  # type: ignore[call-overload]
            )
        eventually(lambda: self.get("/health/ready?seconds=0")[0] == 200, 30, what="serves")
        return self

    def signal(self, number: int) -> float:
        assert self.process is not None
        at = time.monotonic()
        self.process.send_signal(number)
        return at

    def get(self, path: str, timeout: float = 20) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def ends(self, timeout: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def says(self) -> str:
        return self.log.read_text(errors="replace")

    def did(self) -> list[str]:
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass(frozen=True)
class Tried:
    """One request: ``status`` 0 is a connection that was refused, -1 one that broke."""

    began: float
    ended: float
    status: int
    retry_after: str | None = None
    reused: bool = False


@dataclass
class Load:
    """Clients that ask one after the other, over connections that are kept or made anew."""

    port: int
    path: str = "/work"
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, keeping: int, anew: int) -> Iterator[Load]:
        threads = [
            threading.Thread(target=self._ask, args=(keep,), daemon=True)
            for keep in [True] * keeping + [False] * anew
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join(30)

    def _ask(self, keep: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self.stopped.is_set():
            reused = connection is not None and connection.sock is not None
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            began = time.monotonic()
            status, retry_after = 0, None
            try:
                connection.connect() if connection.sock is None else None
                status = -1
                headers = self.headers if keep else {**self.headers, "Connection": "close"}
                connection.request("POST" if self.body else "GET", self.path, self.body, headers)
                answer = connection.getresponse()
                answer.read()
                status, retry_after = answer.status, answer.getheader("Retry-After")
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
            self.tried.append(Tried(began, time.monotonic(), status, retry_after, reused))
            if not keep and connection is not None:
                connection.close()
                connection = None
            if status <= 0:
                self.stopped.wait(0.05)
            elif status == 503:
                self.stopped.wait(0.02)

    def told(self, since: float, until: float = float("inf")) -> Counter[int]:
        return Counter(one.status for one in self.tried if since <= one.began < until)

    def timeline(self, title: str, asked: float, ended: float, step: float = 0.25) -> str:
        """What became of the requests, by when they began, in seconds from the signal."""
        lines = [f"{title}: seconds from the signal, requests begun, by how they ended"]
        start = asked - 2 * step
        while start < ended + step:
            told = self.told(start, start + step)
            words = {0: "refused", -1: "broken"}
            counts = ", ".join(
                f"{number} x {words.get(status, status)}" for status, number in sorted(told.items())
            )
            lines.append(f"  {start - asked:+6.2f}  {counts or '-'}")
            start += step
        return "\n".join([*lines, f"  {ended - asked:+6.2f}  the process has ended"])

"""The local stack as a user runs it: ``python -m worker`` in a process of its own, on its own state folder."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import redis

from regrow.settings.sources import read_stack_env
from tests.servers import free_port
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
MARKS = {"valkey": "valkey-server", "worker": "worker worker", "beat": "worker beat", "web": "regrow.web"}
"""What the command line of each child holds."""


@dataclass
class LocalStack:
    """One supervisor and its children. ``start`` again on the same home after its end."""

    home: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def begin(self, **environ: str) -> subprocess.Popen[bytes]:
        """Start the supervisor without waiting for anything."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with self.file("out").open("wb") as out, self.file("log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                cwd=ROOT,
                env={
                    **kept,
                    "REGROW_PROFILE": "testing",
                    "REGROW_HOME": str(self.home),
                    "REGROW_PORT": str(self.port),
                    **environ,
                },
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def start(self, **environ: str) -> float:
        """Start it and wait for its ``ready`` line; the seconds that took."""
        began = time.monotonic()
        self.begin(**environ)
        eventually(self._is_ready, 90, what=f"the ready line; the log is {self.file('log')}")
        return time.monotonic() - began

    def _is_ready(self) -> bool:
        assert self.supervisor.poll() is None, f"ended while starting:\n{self.said()}\n{self.log()[-3000:]}"
        return f"ready {self.url}" in self.said().splitlines()

    def file(self, name: str) -> Path:
        return self.home.with_name(f"{self.home.name}.{name}")

    def said(self) -> str:
        return self.file("out").read_text()

    def log(self) -> str:
        return self.file("log").read_text(errors="replace")

    @property
    def variables(self) -> dict[str, str]:
        return read_stack_env(self.home)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.variables["REGROW_REDIS_URL"], decode_responses=True, socket_timeout=5
        )

    def child(self, name: str) -> psutil.Process:
        """The one child with this name; AssertionError while there is none."""
        found = [
            process
            for process in psutil.Process(self.supervisor.pid).children()
            if MARKS[name] in " ".join(process.cmdline())
        ]
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def family(self) -> list[psutil.Process]:
        """Every process under the supervisor, pool children and all."""
        return psutil.Process(self.supervisor.pid).children(recursive=True)

    def get(self, path: str, **headers: str) -> int:
        """The status of a page."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def ask_to_stop(self, number: signal.Signals) -> int:
        """Send the signal to the whole group, as a terminal does; the exit status."""
        os.killpg(self.supervisor.pid, number)
        return self.supervisor.wait(60)

    def close(self) -> None:
        """End whatever still runs."""
        if self.process is None or self.process.poll() is not None:
            return
        family = self.family()
        self.process.kill()
        self.process.wait()
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def are_gone(family: list[psutil.Process]) -> bool:
    """Whether none of them runs any more; a dead one that nobody has reaped yet is gone too."""
    return not any(_runs(process) for process in family)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

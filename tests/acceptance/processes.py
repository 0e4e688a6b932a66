"""Real processes of a whole deployment: workers, beat and apps, each with its log in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tests.servers import child_options

ROOT = Path(__file__).parents[2]


@dataclass
class Process:
    """One real process of ours, restartable with the same command, as a supervisor would."""

    name: str
    command: list[str]
    environ: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env=dict(self.environ),
                stdout=log,
                stderr=log,
                start_new_session=True,
                **child_options(),
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def kill_main(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_a_child(self) -> int:
        victim = self.children()[0]
        os.kill(victim, signal.SIGKILL)
        return victim

    def terminate(self, timeout: float = 40) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def clean_environ(**more: str) -> dict[str, str]:
    """An environment with nothing of this machine's settings in it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}

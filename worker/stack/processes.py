"""One running child: tethered to us, in a session of its own, its output read line by line.

Start children from the main thread only: the kernel sends the death signal when the *thread* ends that
started them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.stack import tether

TAIL = 30
"""Lines kept of each child, for the report when it does not come up again."""

Line = Callable[[str, str], None]
"""Takes the name of a child and a line it wrote."""


@dataclass(frozen=True)
class Child:
    """What to run.

    ``patience``: seconds it may take to end after SIGTERM. ``noise``: lines with one of these are not shown.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    patience: float = 10.0
    noise: tuple[str, ...] = ()


class Process:
    """A started child. ``started`` and ``ended`` are monotonic seconds."""

    def __init__(self, child: Child, listener: Line) -> None:
        self.child = child
        self.started = time.monotonic()
        self.started_at = time.time()
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._listener = listener
        # In a session of its own: Ctrl-C at the terminal reaches the supervisor alone, which then stops
        # the children in their order; and whatever a child leaves behind can be ended with its group.
        self._popen = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid()), *child.command],
            env=dict(child.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log-{child.name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs. After its end nothing of its group is left."""
        code = self._popen.poll()
        if code is not None:
            self._end_group()
        return code

    def signal(self, number: signal.Signals) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(number)

    def kill(self) -> None:
        """End it and its group at once, and wait until it is gone."""
        if self._popen.poll() is None:
            self._end_group()
        self._popen.wait()

    def last_words(self) -> list[str]:
        """The last lines of a child that has ended, all of them: its output is read to the end first."""
        self._reader.join(2)
        return list(self.tail)

    def _end_group(self) -> None:
        """A worker that was killed leaves its pool behind; it must not go on without it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self._popen.stdout is not None  # noqa: S101 - PIPE above
        with self._popen.stdout as output:
            for raw in output:
                line = raw.decode("utf-8", "replace").rstrip()
                if line and not any(noise in line for noise in self.child.noise):
                    self.tail.append(line)
                    self._listener(self.child.name, line)


def describe(code: int) -> str:
    """An exit status in words: ``exit status 1``, ``SIGKILL``."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"

"""What the person at the terminal sees: progress and ``ready`` on stdout, the children's logs on stderr.

Nothing here fails: a reader that has gone away (a closed terminal, ``| head``) must not stop the stack.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from typing import TextIO

_COLOURS = {"valkey": 35, "worker": 32, "beat": 33, "web": 36}
_RULE = "=" * 78


class Console:
    """Lines from several threads, each written whole. ``machine``: logs are JSON and stay so."""

    def __init__(self, out: TextIO = sys.stdout, err: TextIO = sys.stderr, *, machine: bool = False) -> None:
        self._out = out
        self._err = err
        self.machine = machine
        self._lock = threading.Lock()
        self._coloured = err.isatty()

    def say(self, text: str) -> None:
        """A line for people, on stdout."""
        self._write(self._out, text)

    def log(self, child: str, line: str) -> None:
        """A line that ``child`` wrote."""
        if self.machine:
            self._write(
                self._err, line if line.startswith("{") else json.dumps({"child": child, "event": line})
            )
            return
        mark = f"{child:>6} |"
        if self._coloured:
            mark = f"\x1b[{_COLOURS.get(child, 37)}m{mark}\x1b[0m"
        self._write(self._err, f"{mark} {line}")

    def alarm(self, headline: str, details: Sequence[str] = ()) -> None:
        """What must not be overlooked: an error block on stderr."""
        self._write(self._err, "\n".join([_RULE, f"regrow: {headline}", *details, _RULE]))

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            try:
                stream.write(f"{text}\n")
                stream.flush()
            except (OSError, ValueError):
                return

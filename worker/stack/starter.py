"""The program that started us and waits for our end: make. When it is done for, we are not wanted any more.

Two things can befall it that we would not notice. It may be killed. Or an interrupt may reach it alone
(``kill -INT``; at a terminal it reaches us both): unlike SIGTERM, make does not pass that on, it waits for us
to end, and so we would wait for each other. On Linux the signal then shows as blocked in make.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.stack.errors import StackError

STARTED_BY = "REGROW_STARTED_BY"
"""The variable in which our parent gives its process id, if it waits for us."""

_INTERRUPTED = 1 << (signal.SIGINT - 1)


def still_wanted(environ: Mapping[str, str]) -> Callable[[], bool]:
    """Tells whether the starter named in ``environ`` still wants us; always, when none is named."""
    named = environ.get(STARTED_BY, "")
    if not named:
        return lambda: True
    if not named.isdecimal():
        raise StackError(f"{STARTED_BY} is {named!r}, not a process id. Unset it.")
    starter = int(named)
    return lambda: os.getppid() == starter and not _is_interrupted(starter)


def _is_interrupted(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False  # not Linux
    blocked = next((line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")), "0")
    return bool(int(blocked, 16) & _INTERRUPTED)

"""Small real programs that stand in for the children, each as a command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from worker.stack.processes import Child

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def python(name: str, code: str, patience: float = 10.0) -> Child:
    return Child(name, (sys.executable, "-c", code), ENVIRONMENT, patience)


def server(name: str, up: Path, patience: float = 10.0) -> Child:
    """Writes its pid to ``up``, runs until SIGTERM, then appends its name to ``up``'s neighbour ``stops``."""
    code = (
        "import os, pathlib, signal, sys\n"
        f"stops = pathlib.Path({str(up.parent / 'stops')!r})\n"
        "def end(*_):\n"
        f"    with stops.open('a') as log: log.write({name!r} + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(up)!r}).write_text(str(os.getpid()))\n"
        "while True: signal.pause()\n"
    )
    return python(name, code, patience)


def deaf(name: str, up: Path, patience: float) -> Child:
    """Does not listen to SIGTERM."""
    code = (
        "import os, pathlib, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(up)!r}).write_text(str(os.getpid()))\n"
        "while True: signal.pause()\n"
    )
    return python(name, code, patience)

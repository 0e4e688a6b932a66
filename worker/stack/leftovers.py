"""Ending what a killed supervisor left behind, and nothing else.

Normally nothing is left: children die with us (see ``tether``). This is the second net, spread at the next
start on the same state folder, while we hold its lock. A process is provably ours when it is one we wrote
down, with the same start time, or when it carries the token of that stack in its environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.stack.home import write_private

TOKEN = "REGROW_STACK"  # noqa: S105 - the name of a variable; its value marks processes, it opens nothing
_SAME = 1.5
"""Seconds: a start time is reckoned from the boot time, which moves when the clock is set."""
_GRACE = 5.0


@dataclass(frozen=True)
class Mark:
    """A process by number and start time (epoch seconds): together they name one for ever."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Mark | None:
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None


def write_down(file: Path, token: str, marks: Iterable[Mark | None]) -> None:
    """Keep what is needed to recognise these children later."""
    kept = [[mark.pid, mark.created] for mark in marks if mark is not None]
    write_private(file, json.dumps({"token": token, "children": kept}))


def sweep(file: Path) -> list[str]:
    """End what is left of the stack that wrote ``file``; their names and pids. Forgets the file."""
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        token = str(written["token"])
        marks = {Mark(int(pid), float(created)) for pid, created in written["children"]}
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError):
        token, marks = "", set()  # unreadable: prove nothing, end nothing
    found = list(_ours(token, marks))
    told = [f"{_name(process)} (pid {process.pid})" for process in found]
    _end(found)
    file.unlink(missing_ok=True)
    return told


def _ours(token: str, marks: set[Mark]) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            created = process.create_time()
            written_down = any(
                mark.pid == process.pid and abs(mark.created - created) < _SAME for mark in marks
            )
            if written_down or (token and process.environ().get(TOKEN) == token):
                yield process
        except (psutil.Error, OSError):
            continue


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "a process"


def _end(processes: list[psutil.Process]) -> None:
    """SIGTERM, so that a Valkey closes its files; SIGKILL for what does not listen."""
    for act in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            try:
                act(process)
            except psutil.NoSuchProcess:
                continue
        _, processes = psutil.wait_procs(processes, timeout=_GRACE)

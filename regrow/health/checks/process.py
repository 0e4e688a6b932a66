"""Processes of this machine: how many of them there are, how much memory they use, how long they have run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from regrow.health.checks.conditions import Remark, concluded
from regrow.health.rules import Finding, Status
from regrow.settings import Settings
from regrow.settings.checks import ProcessCheck

_DEAD = frozenset({"zombie", "dead"})
_SHOWN = 20


@dataclass(frozen=True)
class Running:
    """One process. ``memory``: resident bytes; ``age``: seconds since it was started."""

    pid: int
    name: str
    memory: int
    age: float


def probe(check: ProcessCheck, settings: Settings) -> Finding:
    del settings
    return verdict(check, list(_found(check, time.time())))


def verdict(check: ProcessCheck, found: Sequence[Running]) -> Finding:
    memory = sum(process.memory for process in found)
    ages = [process.age for process in found]
    data = {
        "count": len(found),
        "memory_bytes": memory,
        "pids": [process.pid for process in found][:_SHOWN],
        "youngest": round(min(ages), 1) if ages else None,
        "oldest": round(max(ages), 1) if ages else None,
    }
    said = f"{len(found)} of {_what(check)} run, {memory / 2**20:.0f} MiB"
    return concluded(said, _remarks(check, found, memory), **data)


def _remarks(check: ProcessCheck, found: Sequence[Running], memory: int) -> Iterator[Remark]:
    if len(found) < check.at_least:
        yield Remark("unhealthy", f"there should be {check.at_least} or more")
    if check.at_most is not None and len(found) > check.at_most:
        yield Remark("unhealthy", f"there should be {check.at_most} or fewer")
    limits: tuple[tuple[int | None, Status], ...] = (
        (check.memory_critical, "unhealthy"),
        (check.memory_warning, "degraded"),
    )
    for limit, status in limits:
        if limit is not None and memory >= limit:
            yield Remark(status, f"memory from {limit / 2**20:.0f} MiB on is too much")
            break
    ages = [process.age for process in found]
    if ages and check.min_age is not None and min(ages) < check.min_age:
        yield Remark("degraded", f"one was started {min(ages):.0f} s ago, less than {check.min_age:g} s")
    if ages and check.max_age is not None and max(ages) > check.max_age:
        yield Remark("degraded", f"one has run for {max(ages):.0f} s, more than {check.max_age:g} s")


def _what(check: ProcessCheck) -> str:
    if check.pidfile is not None:
        return str(check.pidfile)
    return " ".join(pattern for pattern in (check.name, check.cmdline) if pattern is not None)


def _found(check: ProcessCheck, now: float) -> Iterator[Running]:
    import psutil

    if check.pidfile is not None:
        processes: Any = _of_file(check)
    else:
        processes = filter(_matching(check), psutil.process_iter())
    for process in processes:
        try:
            with process.oneshot():
                if process.status() not in _DEAD:
                    memory, started = process.memory_info().rss, process.create_time()
                    yield Running(process.pid, process.name(), memory, max(0.0, now - started))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _of_file(check: ProcessCheck) -> Iterator[Any]:
    """The process that the file names; none when the file or the process is gone, or it is a word."""
    import psutil

    assert check.pidfile is not None  # noqa: S101 - who calls has looked
    try:
        yield psutil.Process(int(check.pidfile.read_text(encoding="ascii").strip()))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return


def _matching(check: ProcessCheck) -> Callable[[Any], bool]:
    import psutil
    import regex

    name = regex.compile(check.name) if check.name is not None else None
    cmdline = regex.compile(check.cmdline) if check.cmdline is not None else None

    def matches(process: Any) -> bool:
        try:
            if name is not None and not name.search(process.name(), timeout=1):
                return False
            return cmdline is None or bool(cmdline.search(" ".join(process.cmdline()), timeout=1))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False

    return matches

"""What tests of a fleet call with: failures, patient callers, and whole processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time

from regrow.errors import CircuitOpenError


class Refused(Exception):
    """What the guarded service answers when it fails."""


def fail():
    raise Refused


async def fail_async():
    raise Refused


def fails(breaker, times=5):
    for _ in range(times):
        with contextlib.suppress(Refused, CircuitOpenError):
            breaker.call(fail)


def admitted(breaker):
    """Leave for a call, None where it is refused."""
    try:
        return breaker.admit()
    except CircuitOpenError:
        return None


def probing(breaker):
    """Leave for a probe, None where there is none to have."""
    permit = admitted(breaker)
    if permit is None or permit.is_probe:
        return permit
    permit.release()
    return None


def until_closed(breaker, work):
    deadline = time.monotonic() + 15
    while breaker.state != "closed" and time.monotonic() < deadline:
        try:
            breaker.call(work)
        except CircuitOpenError:
            time.sleep(0.002)


def rested(breaker):
    """Let a breaker of this process alone be later by its ``recovery_timeout``, however long that is."""
    memory, cell = breaker._reporter.memory, breaker._cell
    before = memory._clock
    memory._clock = lambda: before() + cell.config.recovery_ms
    breaker._reporter._turn_safely(cell)


def breaker_threads():
    """The names of the threads that breakers have in this process."""
    return sorted(
        thread.name for thread in threading.enumerate() if thread.name.startswith("regrow-breakers")
    )


def run(code: str, redis_url: str, **options) -> subprocess.Popen:
    """A process of its own, in which ``regrow``, ``fail`` and ``fails`` are there."""
    head = textwrap.dedent(
        """
        import os, sys, time
        import regrow
        def fail():
            raise OSError
        def fails(breaker, times=5):
            for _ in range(times):
                try:
                    breaker.call(fail)
                except (OSError, regrow.CircuitOpenError):
                    pass
        """
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        env={**os.environ, "REGROW_REDIS_URL": redis_url},
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )

"""A program of yours: run without a shell, in a process group of its own, which ends with the timeout.

Its exit code is the verdict and the first line that it prints the message; of what it prints 4 KiB are read,
and what looks like a secret is hidden. It gets none of the worker's own environment but what it needs to run.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import IO

from regrow.health.rules import Finding, Status, finding
from regrow.redaction import Redactor
from regrow.settings import Settings
from regrow.settings.checks import CommandCheck

OUTPUT_LIMIT = 4096
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
_LAST_WORDS = 0.2
"""Seconds in which what is still in the pipe is read after the program has ended."""


@dataclass(frozen=True)
class Ended:
    """``code``: as a shell has it, -N for signal N; None when it did not end in time."""

    code: int | None
    output: str


def probe(check: CommandCheck, settings: Settings) -> Finding:
    redactor = Redactor(settings.dead_letters.redact, emails=settings.dead_letters.redact_emails)
    try:
        ended = _run(check, 0.9 * check.timeout)
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        said = f"{check.argv[0]} could not be run: {error.strerror}: {error.filename}"
        return finding("unknown", said, argv=[check.argv[0]])
    return verdict(check, Ended(ended.code, redactor.text(ended.output)))


def verdict(check: CommandCheck, ended: Ended) -> Finding:
    program = os.path.basename(check.argv[0])  # noqa: PTH119 - it need not be a path
    data = {"exit_code": ended.code, "output": ended.output}
    if ended.code is None:
        said = f"{program} did not end within {0.9 * check.timeout:.1f} s and was killed"
        return finding("unhealthy", said, **data)
    status: Status = {0: "healthy", **check.exit_codes}.get(ended.code, "unhealthy")
    how = f"was ended by signal {-ended.code}" if ended.code < 0 else f"ended with {ended.code}"
    first = ended.output.strip().split("\n", 1)[0]
    return finding(status, f"{program} {how}{f': {first}' if first else ''}", **data)


def _run(check: CommandCheck, bound: float) -> Ended:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= {name: value.get_secret_value() for name, value in check.env.items()}
    process = subprocess.Popen(  # noqa: S603 - the settings name it, and no shell reads it
        list(check.argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=check.folder,
        env=environment,
        start_new_session=True,
        close_fds=True,
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    until = time.monotonic() + bound
    try:
        output, code = _followed(process, process.stdout, until)
    finally:
        _end(process)
        process.stdout.close()
    return Ended(code, output.decode("utf-8", "replace"))


def _followed(process: subprocess.Popen[bytes], pipe: IO[bytes], until: float) -> tuple[bytes, int | None]:
    """What it prints, up to the limit, and its exit code; what goes beyond is read and thrown away.

    A child of its own that keeps the pipe open does not hold us up once the program itself has ended.
    """
    kept = b""
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            ready = waiting.select(min(left, 0.05))
            if ready:
                chunk = os.read(pipe.fileno(), 65_536)
                kept += chunk[: OUTPUT_LIMIT - len(kept)]
                if not chunk:
                    break
            elif process.poll() is not None:
                until = min(until, time.monotonic() + _LAST_WORDS)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, until - time.monotonic()))
    return kept, process.poll()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group: what the program has started must not outlive its check."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)

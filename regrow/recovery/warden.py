"""Runs one command and sees to its end. A program of its own, on the standard library alone.

``python -I warden.py`` takes one line of JSON (``argv``, ``cwd``, ``env``, ``timeout``, ``grace``, ``keep``)
and then watches its standard input: when that ends, whoever asked is dead. The command runs in a process
group of its own, which is ended when its time is over, when it fails, or when nobody is there to ask any
more; so a worker that is killed leaves no handler running behind the back of the next one.

The answer is one line of JSON: ``exit`` (negative: a signal), ``end`` (exited, timed_out, orphaned or
not_started), ``output`` (the last bytes, as text).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any


def main() -> None:
    spec = json.loads(sys.stdin.buffer.readline())
    answer = run(spec)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)  # a thread may still read what a server that was started writes


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the command of ``spec`` to its end, whichever comes first."""
    try:
        process = subprocess.Popen(  # noqa: S603 - what the settings declare; no shell
            spec["argv"],
            cwd=spec["cwd"],
            env=spec["env"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there is no other thread yet
        )
    except (OSError, ValueError) as error:
        return {"exit": None, "end": "not_started", "output": f"{type(error).__name__}: {error}"}
    kept = bytearray()
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = _thread(_read, process, kept, spec["keep"])
    _thread(_await_exit, process, events)
    _thread(_await_orphanage, events)
    try:
        end = events.get(timeout=spec["timeout"])
    except queue.Empty:
        end = "timed_out"
    if end != "exited" or process.returncode != 0:
        _end_group(process, spec["grace"])
    reader.join(1.0)
    return {"exit": process.returncode, "end": end, "output": bytes(kept).decode("utf-8", "replace")}


def _thread(work: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def _read(process: subprocess.Popen[bytes], kept: bytearray, keep: int) -> None:
    assert process.stdout is not None  # noqa: S101
    while chunk := os.read(process.stdout.fileno(), 65536):
        kept += chunk
        del kept[:-keep]


def _await_exit(process: subprocess.Popen[bytes], events: queue.SimpleQueue[str]) -> None:
    process.wait()
    events.put("exited")


def _await_orphanage(events: queue.SimpleQueue[str]) -> None:
    with contextlib.suppress(OSError):
        while sys.stdin.buffer.read(1):
            pass
    events.put("orphaned")


def _end_group(process: subprocess.Popen[bytes], grace: float) -> None:
    """Ask the whole group to end, then end it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        until = time.monotonic() + grace
        while time.monotonic() < until:
            if process.poll() is not None and not _lives(process.pid):
                return
            time.sleep(0.02)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _die_with_parent() -> None:
    """Also when the warden itself is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main()

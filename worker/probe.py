"""The containers' health check: is this process alive? Nothing costly is imported, nobody else is asked.

    python -I -S worker/probe.py heartbeat FILE MAX_AGE    the file was written at most MAX_AGE seconds ago
    python -I -S worker/probe.py http PORT PATH            http://127.0.0.1:PORT/PATH answers 200

Exits 0 or 1 (Docker keeps 2 for itself) and says why in one line, which ``docker inspect`` shows. It runs
every few seconds in every container, so it must not load the package: 0.02 s instead of half a second.
It judges what a restart can mend. Whether Redis or the database answer is for ``/health/ready``.
"""

from __future__ import annotations

import os
import sys
import time

TIMEOUT = 3.0
"""Seconds for the page to answer."""

Verdict = tuple[bool, str]


def heartbeat(file: str, max_age: float, now: float) -> Verdict:
    """Whether the process's own loop left its pulse in ``file`` lately. Ages in seconds."""
    try:
        age = now - os.stat(file).st_mtime  # noqa: PTH116 - pathlib would be half of the whole cost
    except FileNotFoundError:
        return (
            False,
            f"no heartbeat yet: {file} is not there (starting, or waiting for Redis and the database)",
        )
    except OSError as error:
        return False, f"{file}: {error.strerror}"
    if age > max_age:
        return False, f"the last heartbeat is {age:.0f} s old, more than {max_age:g} s"
    return True, f"the last heartbeat is {max(age, 0.0):.1f} s old"


def http(port: int, path: str) -> Verdict:
    """Whether the page on this container's loopback answers ``path`` with 200."""
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode("ascii"))
            status = connection.makefile("rb").readline(200).decode("ascii", "replace").strip()
    except OSError as error:
        return False, f"port {port}: {error}"
    return status.split(" ")[1:2] == ["200"], f"{path}: {status or 'no answer'}"


def main(arguments: list[str]) -> int:
    try:
        alive, told = judge(arguments)
    except ValueError:
        alive, told = False, "usage: probe.py heartbeat FILE MAX_AGE | probe.py http PORT PATH"
    sys.stdout.write(told + "\n")
    return 0 if alive else 1


def judge(arguments: list[str]) -> Verdict:
    """The verdict on what the arguments name; ValueError when they name nothing."""
    kind, subject, limit = arguments
    if kind == "heartbeat":
        return heartbeat(subject, float(limit), time.time())
    if kind == "http":
        return http(int(subject), limit)
    raise ValueError(kind)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

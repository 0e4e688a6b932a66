"""Counts every step that a process takes towards a store, a broker or a disk, and may end it at any of them.

Nothing in the product knows of it: the layer sits around what all steps go through (the database driver's
execute and commit, the sockets of Redis and AMQP, ``os.fsync`` and its like). Each of them is two points, one
before and one after it. Only the main thread counts, so that the points of a piece of work stay in their order.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import amqp.connection
import amqp.transport
import redis.connection
import sqlalchemy as sa

_FORMAT = struct.Struct("<I250p")


class Steps:
    """The points passed so far, in memory that outlives a kill; ``at`` is where ``act`` is done."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FORMAT.size)
        self.at: int | None = None
        self.act: Callable[[], None] = kill_me
        self.counting = False

    def begin(self, at: int | None, act: Callable[[], None]) -> None:
        """Count from nothing. Called in the child that is to be hurt, before its work."""
        self.at, self.act, self.counting = at, act, True
        self._memory[:] = _FORMAT.pack(0, b"")

    def end(self) -> None:
        self.counting = False

    @property
    def passed(self) -> int:
        return int(_FORMAT.unpack(self._memory)[0])

    @property
    def last(self) -> str:
        return bytes(_FORMAT.unpack(self._memory)[1]).decode("utf-8", "replace")

    def point(self, name: str) -> None:
        if not self.counting or not _in_main_thread():
            return
        number = self.passed + 1
        self._memory[:] = _FORMAT.pack(number, name.encode()[:200])
        if number == self.at:
            self.act()

    def around(self, owner: Any, name: str, label: Callable[..., str]) -> None:
        """Make ``owner.name`` a step."""
        plain = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            said = label(*args, **options)
            self.point(f"before {said}")
            result = plain(*args, **options)
            self.point(f"after {said}")
            return result

        setattr(owner, name, counted)

    def pass_over(self, owner: Any, name: str) -> None:
        """What happens inside ``owner.name`` is no step: opening a connection, which loses nothing."""
        plain = getattr(owner, name)

        def uncounted(*args: Any, **options: Any) -> Any:
            with self.uncounted():
                return plain(*args, **options)

        setattr(owner, name, uncounted)

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        if not _in_main_thread():  # it is not counted anyway, and must not stop the count of the main one
            yield
            return
        was, self.counting = self.counting, False
        try:
            yield
        finally:
            self.counting = was


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop_me() -> None:
    """Sleep until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def count_everything(steps: Steps, engine: sa.Engine) -> None:
    """Put the layer around this process's database driver, Redis and AMQP connections and disk."""
    dialect = engine.dialect
    for name in ("do_execute", "do_executemany"):
        steps.around(dialect, name, lambda _cursor, statement, *_, **__: _first_words(statement))
    steps.around(dialect, "do_commit", lambda *_: "COMMIT")
    steps.around(dialect, "do_rollback", lambda *_: "ROLLBACK")
    connection = redis.connection.AbstractConnection
    steps.around(
        connection, "send_packed_command", lambda _self, sent, *_, **__: f"redis {_redis_words(sent)}"
    )
    steps.around(connection, "read_response", lambda *_, **__: "redis's answer")
    steps.pass_over(connection, "connect_check_health")
    steps.pass_over(amqp.connection.Connection, "connect")
    steps.around(amqp.transport._AbstractTransport, "write", lambda *_: "amqp write")
    steps.around(amqp.connection.Connection, "drain_events", lambda *_, **__: "amqp answer")
    for name in ("write", "fsync", "fdatasync", "replace", "rename", "unlink", "ftruncate"):
        steps.around(os, name, lambda *_, name=name, **__: f"os.{name}")


def _first_words(statement: str) -> str:
    return " ".join(str(statement).split())[:60]


def _redis_words(command: Any) -> str:
    sent = command if isinstance(command, bytes | str) else b"".join(command)
    parts = (sent if isinstance(sent, bytes) else sent.encode()).split(b"\r\n")
    return b" ".join(parts[2:5:2])[:60].decode("utf-8", "replace")

"""The state folder (``REGROW_HOME``, ``./var``): what the stack keeps, and who may use it.

============== ==================================================================================
valkey/        data of the embedded Valkey (append-only file) and its configuration
tmp/           a folder that cleanup_temp_files keeps tidy, unless the settings declare others
regrow.sqlite3 the database, unless ``REGROW_DATABASE_URL`` names another
api_key        the key for the page's details; made once, kept over restarts, mode 0600
stack.env      while the stack is ready: URLs and key, for other programs to join; mode 0600
stack.lock     held by the supervisor; says who that is
run/           heartbeats, and the children's process ids for the sweep of leftovers
============== ==================================================================================
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from worker.stack.errors import AlreadyRunningError, StackError

ROOM_NEEDED = 50 * 2**20
"""Bytes that must be free before we start: Valkey and SQLite write from the first second on."""


class Home:
    """One state folder. ``path`` may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.valkey = self.path / "valkey"
        self.temp_files = self.path / "tmp"
        self.database = self.path / "regrow.sqlite3"
        self.stack_env = self.path / "stack.env"
        self.leftovers = self.path / "run" / "stack.json"
        self._key = self.path / "api_key"
        self._lock = self.path / "stack.lock"

    def prepare(self) -> None:
        """Make the folder ready to be written; StackError with a remedy when it cannot be."""
        with self._explained("make its folders"):
            for folder in (self.path, self.valkey, self.temp_files, self.leftovers.parent):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            free = shutil.disk_usage(self.path).free
        if free < ROOM_NEEDED:
            raise StackError(
                f"the disk of {self.path} is full: {free / 2**20:.0f} MiB are free, {ROOM_NEEDED >> 20} are "
                "needed. Make room, or put the state elsewhere with REGROW_HOME."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one supervisor at a time; AlreadyRunningError names the other one.

        The kernel gives the lock back when its holder dies, however it dies.
        """
        with self._explained("open its lock"):
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunningError(self._taken()) from None
            self.note_holder(None)
            yield
            self._lock.write_text("")
        finally:
            os.close(descriptor)

    def note_holder(self, url: str | None) -> None:
        """Write down who holds the lock and, once it is known, where the page is."""
        with self._explained("write its lock"):
            self._lock.write_text(json.dumps({"pid": os.getpid(), "url": url}))

    def _taken(self) -> str:
        try:
            holder = json.loads(self._lock.read_text())
            pid, url = holder["pid"], holder["url"]
        except (OSError, ValueError, LookupError, TypeError):
            pid, url = "unknown", None
        where = f", its page is {url}" if url else ", which is still starting"
        return (
            f"the stack is already running on {self.path}: supervisor pid {pid}{where}. "
            "Use that one, stop it with Ctrl-C or SIGTERM, or start another with its own REGROW_HOME."
        )

    def api_key(self) -> str:
        """The kept key, made on the first start."""
        with self._explained("keep the API key"):
            try:
                if kept := self._key.read_text(encoding="ascii").strip():
                    return kept
            except FileNotFoundError:
                pass
            key = secrets.token_urlsafe(24)
            write_private(self._key, f"{key}\n")
            return key

    def publish(self, variables: Mapping[str, str]) -> None:
        """Write ``stack.env``: the stack is ready and others may join."""
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        with self._explained("write stack.env"):
            write_private(self.stack_env, "# Written by `make run`, true while it runs.\n" + "".join(lines))

    def withdraw(self) -> None:
        """The stack is not ready (any more)."""
        with contextlib.suppress(OSError):
            self.stack_env.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self, act: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = (
                "Make room on that disk"
                if error.errno in {errno.ENOSPC, errno.EDQUOT}
                else "Make it a folder that this user can write to"
            )
            raise StackError(
                f"the state folder {self.path}: cannot {act}: {error.strerror}. "
                f"{remedy}, or put the state elsewhere with REGROW_HOME."
            ) from None


def write_private(file: Path, text: str) -> None:
    """Replace ``file`` whole, readable by its owner alone from its first byte on."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    fresh.replace(file)

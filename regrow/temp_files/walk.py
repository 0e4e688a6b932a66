"""Walking a folder that others write to, without ever leaving it.

Every folder is opened by name below the open descriptor of its parent, never through a link, and must be the
one that was seen there a moment before. Mount points and folders on another device are not entered.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from regrow.temp_files.open_files import Identity

MAX_DEPTH = 64
"""Folders deeper than this are reported, not entered: each level costs a descriptor."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder and what ``lstat`` says of it."""

    name: str
    told: os.stat_result

    @property
    def identity(self) -> Identity:
        return self.told.st_dev, self.told.st_ino

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.told.st_mode)


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder: ``descriptor`` is valid only until the walk goes on. ``path`` relative to the root."""

    path: str
    descriptor: int
    entries: tuple[Entry, ...]

    def below(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


Report = Callable[[str, str], None]
"""Called with a relative path and what was wrong there."""


def open_root(path: Path) -> int:
    """A descriptor of a root. OSError when it is missing, no folder, or itself a symbolic link."""
    return os.open(path, _FOLDER)


def walk(root: int, report: Report, *, skip: frozenset[Identity] = frozenset()) -> Iterator[Folder]:
    """Every folder below ``root``, each after the folders inside it, the root itself last.

    ``skip``: folders that are not entered (other declared roots). Troubles are reported and passed by.
    """
    yield from _walk(root, "", report, skip, os.fstat(root).st_dev, mount_of(root), 0)


def _walk(
    descriptor: int,
    path: str,
    report: Report,
    skip: frozenset[Identity],
    device: int,
    mount: str | None,
    depth: int,
) -> Iterator[Folder]:
    files: list[Entry] = []
    for entry in _entries(descriptor, path, report):
        if not stat.S_ISDIR(entry.told.st_mode):
            files.append(entry)
            continue
        below = f"{path}/{entry.name}" if path else entry.name
        if entry.identity in skip:
            continue
        if depth >= MAX_DEPTH:
            report(below, f"deeper than {MAX_DEPTH} folders")
            continue
        try:
            inside = open_below(descriptor, entry)
        except FileNotFoundError:
            continue  # removed since, perhaps by a clean-up like this one
        except OSError as error:
            report(below, error.strerror or str(error))
            continue
        try:
            if entry.told.st_dev == device and mount_of(inside) == mount:
                yield from _walk(inside, below, report, skip, device, mount, depth + 1)
        finally:
            os.close(inside)
    yield Folder(path, descriptor, tuple(files))


def _entries(descriptor: int, path: str, report: Report) -> list[Entry]:
    found = []
    try:
        with os.scandir(descriptor) as listing:
            for item in listing:
                try:
                    found.append(Entry(item.name, item.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # gone since
                except OSError as error:
                    report(f"{path}/{item.name}", error.strerror or str(error))
    except OSError as error:
        report(path or ".", error.strerror or str(error))
    return found


def open_below(parent: int, entry: Entry) -> int:
    """Open a folder by name; OSError when it is no longer the folder that was seen, or has become a link."""
    descriptor = os.open(entry.name, _FOLDER, dir_fd=parent)
    told = os.fstat(descriptor)
    if (told.st_dev, told.st_ino) != entry.identity:
        os.close(descriptor)
        raise OSError(None, "replaced while it was being read")
    return descriptor


def open_path(root: int, path: str) -> int:
    """Open the folder at a relative path, level by level, never through a link. The caller closes it."""
    current = os.dup(root)
    try:
        for name in path.split("/") if path else ():
            inside = os.open(name, _FOLDER, dir_fd=current)
            os.close(current)
            current = inside
    except OSError:
        os.close(current)
        raise
    return current


def mount_of(descriptor: int) -> str | None:
    """The mount a descriptor lies on, which tells bind mounts of one device apart; None where not told."""
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((line.split()[1] for line in lines if line.startswith("mnt_id:")), None)

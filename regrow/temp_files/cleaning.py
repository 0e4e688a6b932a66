"""Cleaning one root: look, decide, look again, remove.

Between the last look and the removal nothing can be swapped in that would matter: the removal names an entry
of an open folder inside the root, and removing a name never follows a link.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import basename, dirname
from typing import Any

from regrow.temp_files.open_files import Identity, OpenFiles
from regrow.temp_files.rules import FileFacts, Holding, Policy, Reason, decide, over_quota
from regrow.temp_files.walk import Entry, open_path, open_root, walk

_TOLD_ERRORS = 20


@dataclass
class Outcome:
    """What was done to one root. ``freed``, ``left`` and ``free`` (of its file system) in bytes.

    ``over``: the quotas that are not kept all the same, because what is left may not be touched.
    """

    path: str
    scanned: int = 0
    removed: int = 0
    folders_removed: int = 0
    freed: int = 0
    left: int = 0
    left_files: int = 0
    free: int | None = None
    over: tuple[str, ...] = ()
    removed_for: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    error_count: int = 0
    finished: bool = True

    def report(self, path: str, trouble: str) -> None:
        self.error_count += 1
        if len(self.errors) < _TOLD_ERRORS:
            self.errors.append(f"{path}: {trouble}")

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "scanned": self.scanned,
            "removed": self.removed,
            "folders_removed": self.folders_removed,
            "freed_bytes": self.freed,
            "left_bytes": self.left,
            "left_files": self.left_files,
            "free_bytes": self.free,
            "over": list(self.over),
            "removed_for": dict(self.removed_for),
            "kept": dict(self.kept),
            "errors": self.errors,
            "error_count": self.error_count,
            "finished": self.finished,
        }


@dataclass(frozen=True)
class Run:
    """What one run brings to every root. ``deadline``: on the monotonic clock; ``now``: epoch seconds."""

    open_files: OpenFiles
    roots: frozenset[Identity]
    now: float
    deadline: float
    dry: bool


def clean_root(path: Path, policy: Policy, run: Run) -> Outcome:
    """Clean one root. A missing or unreadable root is an error of the outcome, never created or raised."""
    outcome = Outcome(str(path))
    try:
        root = open_root(path)
    except OSError as error:
        outcome.report(str(path), _why_not(path, error))
        return outcome
    try:
        _Cleaner(root, policy, run, outcome).clean()
    finally:
        os.close(root)
    return outcome


class _Cleaner:
    """One root while it is being cleaned."""

    def __init__(self, root: int, policy: Policy, run: Run, outcome: Outcome) -> None:
        self.root = root
        self.policy = policy
        self.run = run
        self.outcome = outcome
        # Young files that may have to go for the quota; without a quota nothing needs remembering.
        self.young: list[tuple[FileFacts, Entry]] = []
        self.emptied: set[str] = set()
        """Folders from which something was removed."""

    def clean(self) -> None:
        own = os.fstat(self.root)
        skip = self.run.roots - {(own.st_dev, own.st_ino)}
        for folder in walk(self.root, self.outcome.report, skip=skip):
            for entry in folder.entries:
                self._judge(folder.descriptor, folder.below(entry.name), entry)
            if time.monotonic() > self.run.deadline:
                self.outcome.finished = False
                return  # the quota needs the sum of all files
        self._keep_quota()
        if not self.run.dry:
            self._remove_empty_folders()

    def _judge(self, folder: int, path: str, entry: Entry) -> None:
        self.outcome.scanned += 1
        told = entry.told
        file = FileFacts(
            path=path,
            size=told.st_size if entry.is_regular else 0,
            modified=told.st_mtime,
            regular=entry.is_regular,
            is_open=self.run.open_files.holds(entry.identity),
        )
        verdict = decide(file, self.policy, self.run.now)
        if verdict.remove and self._remove(folder, path, entry, verdict.reason):
            return
        self.outcome.left += file.size
        self.outcome.left_files += 1
        if not verdict.remove:
            self.outcome.kept[verdict.reason] += 1
            if verdict.reason == "young" and self.policy.has_quota:
                self.young.append((file, entry))

    def _keep_quota(self) -> None:
        entries = dict(self.young)
        for file in over_quota(entries, self._holding(), self.policy):
            try:
                folder = open_path(self.root, dirname(file.path))
            except FileNotFoundError:
                continue  # its folder is gone, and with it the need
            except OSError as error:
                self.outcome.report(file.path, error.strerror or str(error))
                continue
            try:
                if self._remove(folder, file.path, entries[file], "over quota"):
                    self.outcome.left -= file.size
                    self.outcome.left_files -= 1
                    self.outcome.kept["young"] -= 1
            finally:
                os.close(folder)
        self.outcome.kept = +self.outcome.kept
        left = self._holding()
        self.outcome.free, self.outcome.over = left.free, left.over(self.policy)

    def _holding(self) -> Holding:
        """What is left now; a dry run counts as free what it would have freed."""
        told = os.fstatvfs(self.root)
        free = told.f_bavail * told.f_frsize + (self.outcome.freed if self.run.dry else 0)
        return Holding(self.outcome.left, self.outcome.left_files, free)

    def _remove(self, folder: int, path: str, entry: Entry, why: Reason) -> bool:
        """Remove one file if it still is the file that was judged; says whether it is gone now."""
        try:
            told = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
            if not _same(entry.told, told):
                self.outcome.kept["changed meanwhile"] += 1
                return False
            if not self.run.dry:
                os.unlink(entry.name, dir_fd=folder)
        except FileNotFoundError:
            self.outcome.kept["gone meanwhile"] += 1
            return True
        except OSError as error:
            self.outcome.report(path, error.strerror or str(error))
            return False
        self.outcome.removed += 1
        self.outcome.removed_for[why] += 1
        # With a second name the bytes stay where they are.
        self.outcome.freed += entry.told.st_size if entry.told.st_nlink == 1 else 0
        self.emptied.add(dirname(path))
        return True

    def _remove_empty_folders(self) -> None:
        """Folders that we emptied, and those above that are empty for it; never the root itself."""
        waiting = sorted(self.emptied, key=lambda path: path.count("/"), reverse=True)
        while waiting:
            path = waiting.pop(0)
            if path and self._remove_folder(path):
                self.outcome.folders_removed += 1
                parent = dirname(path)
                if parent not in waiting:
                    waiting.append(parent)

    def _remove_folder(self, path: str) -> bool:
        try:
            parent = open_path(self.root, dirname(path))
        except OSError:
            return False
        name = basename(path)
        try:
            told = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (told.st_dev, told.st_ino) in self.run.roots or not stat.S_ISDIR(told.st_mode):
                return False
            os.rmdir(name, dir_fd=parent)  # the kernel refuses what is not empty, or a mount point
        except OSError:
            return False
        finally:
            os.close(parent)
        return True


def _same(seen: os.stat_result, told: os.stat_result) -> bool:
    """The same file, not written to since."""

    def key(facts: os.stat_result) -> tuple[int, int, int, int]:
        return (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size)

    return stat.S_ISREG(told.st_mode) and key(seen) == key(told)


def _why_not(path: Path, error: OSError) -> str:
    if path.is_symlink():
        return "is a symbolic link; declare the folder that it points to"
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return error.strerror or str(error)

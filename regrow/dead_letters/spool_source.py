"""One source of the spool: a folder of segments that one process at a time holds by a lock.

    <spool>/<source>/lock                     held (flock) by whoever writes or ships it, while it lives
    <spool>/<source>/00000000000000000001.log entries 1, 2, ... (see spool_records); named by its first number

The kernel releases the lock of a dead process, however it died; then any other process may adopt its source.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regrow.dead_letters.spool_records import Record, scan
from regrow.log_events import EventLog

log = EventLog(__name__)

_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SEGMENT = re.compile(r"([0-9]{20})\.log", re.ASCII)
_LOCK = "lock"
_UNFINISHED = ".new-"
_ABANDONED = 3600.0
"""Seconds after which a source that was never finished being made belongs to nobody."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What was appended, and its number within its source (1, 2, ...)."""

    number: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Numbers that are on no disk any more: their records were damaged after they had been written."""

    first: int
    last: int


class Source:
    """Segments of one source, whose lock this process holds. Safe for threads."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.name = folder.name
        self._lock_fd: int | None = lock
        self._guard = threading.Lock()
        self._firsts = sorted(
            int(found[1]) for path in folder.iterdir() if (found := _SEGMENT.fullmatch(path.name))
        )
        self.after = self._firsts[0] - 1 if self._firsts else 0
        """All entries up to this number have been received, and deleted."""
        self._read_to = (0, 0, 0)
        """(number, first of its segment, offset behind it) of the entry that was read last."""

    @classmethod
    def make(cls, spool: Path) -> Source:
        """A new, empty source. It appears under its name with its lock already held."""
        name = uuid.uuid4().hex
        unfinished = spool / f"{_UNFINISHED}{name}"
        unfinished.mkdir(mode=0o700)
        lock = os.open(unfinished / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unfinished.rename(spool / name)
            sync_folder(spool)
        except BaseException:
            os.close(lock)
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return cls(spool / name, lock)

    @classmethod
    def adopt(cls, spool: Path) -> Iterator[Source]:
        """Each source in the folder that nobody holds; from now on this process does."""
        for folder in sorted(spool.iterdir()):
            if _NAME.fullmatch(folder.name):
                lock = _lock_if_free(folder)
                if lock is not None:
                    yield cls(folder, lock)
            elif folder.name.startswith(_UNFINISHED):
                _clear_if_abandoned(folder)

    @property
    def is_empty(self) -> bool:
        with self._guard:
            return not self._firsts

    def segment(self, first: int) -> Path:
        return self.folder / f"{first:020}.log"

    def begin_segment(self, first: int) -> int:
        """A new segment whose first entry will have this number; its open file. Durable in its folder."""
        path = self.segment(first)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        sync_folder(self.folder)
        with self._guard:
            if first not in self._firsts:
                self._firsts.append(first)
        return file

    def read(
        self, after: int, *, limit: int = 200, most_bytes: int = 1 << 20, until: int | None = None
    ) -> list[Entry | Lost]:
        """Entries behind ``after``, in order: at most ``limit``, about ``most_bytes``, yet at least one.

        ``until``: the last number that may be read (of a source that is still being written).
        """
        found: list[Entry | Lost] = []
        size, expected = 0, after + 1
        for first, record in self._records(after):
            if (until is not None and record.number > until) or len(found) >= limit or size >= most_bytes:
                break
            if record.number > expected:
                found.append(Lost(expected, record.number - 1))
            found.append(Entry(record.number, record.payload))
            self._read_to = (record.number, first, record.end)
            size += len(record.payload)
            expected = record.number + 1
        return found

    def forget(self, upto: int, *, last: int | None = None) -> None:
        """Delete the segments all of whose entries have been received.

        ``last``: the last number written, of a source that is still being written: its newest segment goes
        when even that has been received. Without it the newest segment stays.
        """
        with self._guard:
            ends = [first - 1 for first in self._firsts[1:]]
            ends += [] if last is None or not self._firsts else [last]
            gone = [(first, end) for first, end in zip(self._firsts, ends, strict=False) if end <= upto]
            for first, end in gone:
                self.segment(first).unlink(missing_ok=True)
                self._firsts.remove(first)
                self.after = max(self.after, end)

    def remove(self) -> None:
        """Delete the source; for when everything in it has been received.

        What lies behind its last whole record was torn when its process died, and never accepted; or it was
        accepted, and damaged since. Nobody can tell, so it is put aside as ``torn-<source>.log``.
        """
        torn = self._torn_end()
        if torn:
            aside = self.folder.parent / f"torn-{self.name}.log"
            aside.touch(mode=0o600)
            aside.write_bytes(torn)
            log.warning("spool.torn_end", source=self.name, bytes=len(torn), kept=str(aside))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the lock: whoever comes next may adopt what is left. In a forked child, which shares the
        lock with its parent, this leaves the parent's alone."""
        lock, self._lock_fd = self._lock_fd, None
        if lock is not None:
            os.close(lock)

    def _torn_end(self) -> bytes:
        with self._guard:
            if not self._firsts:
                return b""
            data = self.segment(self._firsts[-1]).read_bytes()
        return data[max((record.end for record in scan(data)), default=0) :]

    def _records(self, after: int) -> Iterator[tuple[int, Record]]:
        """(first number of its segment, record) of all that lies behind ``after``."""
        with self._guard:
            firsts = list(self._firsts)
        start = max((first for first in firsts if first <= after + 1), default=None)
        for position, first in enumerate(firsts):
            if start is not None and first < start:
                continue
            before = firsts[position + 1] if position + 1 < len(firsts) else None
            for record in self._records_of(first, after):
                # A segment that could not be synced may hold what was written anew, with the same number, in
                # the next one.
                if record.number > after and (before is None or record.number < before):
                    yield first, record

    def _records_of(self, first: int, after: int) -> Iterator[Record]:
        number, segment, offset = self._read_to
        skip = offset if (segment, number) == (first, after) else 0
        try:
            with self.segment(first).open("rb") as file:
                file.seek(skip)
                data = file.read()
        except FileNotFoundError:  # received and forgotten meanwhile
            return
        for record in scan(data):
            yield Record(record.number, record.payload, skip + record.end)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock_if_free(folder: Path) -> int | None:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("spool.not_adopted", source=folder.name, error=str(error))
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (folder / _LOCK).stat().st_ino == os.fstat(lock).st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):  # somebody holds it, or has just finished with it
        pass
    os.close(lock)
    return None


def _clear_if_abandoned(folder: Path) -> None:
    """Its maker died before it was named: nothing can have been accepted into it."""
    try:
        if time.time() - folder.stat().st_mtime > _ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:
        pass

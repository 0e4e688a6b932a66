"""The spool: failures kept on this machine's disk, fsynced, until the database has said that it has them.

    spool = Spool(Path("/var/spool/regrow"))
    spool.check()                            # SettingsError when it cannot be written
    numbers = spool.append([b"...", b"..."]) # returns when they are on disk: from here on they are accepted

Entries are bytes; what they mean is the business of ``spool_entries``. Each process writes a source of its
own (``spool_source``), made at its first entry; a forked child lets go of its parent's and makes its own.
Callers that append at the same time share one fsync. A ``Shipper`` (``spool_shipping``) reads what was
appended, sends it, and deletes it once it was received. What a dead process left is adopted by a living one.

Nothing is ever evicted: a spool that is full, or whose disk is, refuses with SpoolUnavailableError.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from regrow.dead_letters.spool_records import HEAD_BYTES, encode
from regrow.dead_letters.spool_source import Entry, Lost, Source, sync_folder
from regrow.errors import LetterRefusedError, SettingsError, SpoolUnavailableError
from regrow.log_events import EventLog

__all__ = ["MAX_BYTES", "Entry", "Lost", "Spool"]

log = EventLog(__name__)

MAX_BYTES = 256 << 20
"""What one process keeps at most."""
SEGMENT_BYTES = 8 << 20
_ALARM = 0.8
_LOUD_EVERY = 60.0


class Spool:
    """This process's part of a spool folder. Safe for threads and forks."""

    def __init__(
        self, folder: Path, *, max_bytes: int = MAX_BYTES, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._begin()
        _spools.add(self)

    def _begin(self) -> None:
        self.source: Source | None = None
        """What this process writes; None until its first entry."""
        self.last = 0
        """The number of the last entry that is accepted."""
        self._file: int | None = None
        self._size = 0
        """Bytes of the newest segment that are accepted."""
        self._sealed: dict[int, int] = {}
        """Bytes of the older ones, by their last number."""
        self._waiting: list[_Waiting] = []
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._loud_at = -_LOUD_EVERY

    def check(self) -> None:
        """Make the folder if it is missing and write a file in it. SettingsError: what is wrong with it."""
        probe = self.folder / f".probe-{os.getpid()}-{threading.get_ident()}"
        try:
            self._make_folder()
            mode = self.folder.stat().st_mode
            file = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, b"regrow")
                os.fsync(file)
            finally:
                os.close(file)
                probe.unlink()
            sync_folder(self.folder)
        except OSError as error:
            raise SettingsError(
                f"the spool folder {self.folder} cannot be written ({error.strerror}): give it to user "
                f"{os.geteuid()} with mode 0700 on a local disk with room, or unset spool and REGROW_SPOOL"
            ) from error
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingsError(
                f"others may write to the spool folder {self.folder}: chmod 0700, or name a folder of its own"
            )

    def append(self, payloads: Sequence[bytes]) -> range:
        """Keep these entries, all or none; returns their numbers once they are on disk.

        SpoolUnavailableError: no room, or the disk fails; nothing of them is kept. LetterRefusedError: one
        alone is larger than the spool.
        """
        if not payloads:
            return range(0)
        size = sum(len(payload) + HEAD_BYTES for payload in payloads)
        if size > self._max_bytes:
            raise LetterRefusedError(f"{size} bytes are more than the spool may hold ({self._max_bytes})")
        mine = _Waiting(payloads, size)
        with self._queue_lock:
            self._waiting.append(mine)
        with self._commit_lock:
            if not mine.done:  # else whoever held the lock has written ours with his own
                with self._queue_lock:
                    together, self._waiting = self._waiting, []
                self._commit(together)
        if mine.error is not None:
            raise SpoolUnavailableError(mine.error)
        return mine.numbers

    def read(self, after: int, *, limit: int = 200, most_bytes: int = 1 << 20) -> list[Entry | Lost]:
        """Accepted entries of this process behind number ``after``."""
        source, last = self.source, self.last
        if source is None or after >= last:
            return []
        return source.read(after, limit=limit, most_bytes=most_bytes, until=last)

    def forget(self, upto: int) -> None:
        """Delete what has been received: entries up to this number, by whole segments."""
        with self._commit_lock:
            if self.source is None:
                return
            everything = upto >= self.last
            if everything and self._file is not None:
                os.close(self._file)
                self._file, self._size = None, 0
            self.source.forget(upto, last=self.last if everything else None)
            self._sealed = {last: size for last, size in self._sealed.items() if last > upto}

    @property
    def bytes_held(self) -> int:
        return self._size + sum(self._sealed.values())

    def close(self) -> None:
        """End this process's source. What has not been received stays for whoever adopts it."""
        with self._commit_lock:
            if self._file is not None:
                os.close(self._file)
            source = self.source
            self.source, self._file, self._size, self.last = None, None, 0, 0
            self._sealed = {}
            if source is not None and source.is_empty:
                source.remove()
            elif source is not None:
                source.close()

    def _commit(self, together: Sequence[_Waiting]) -> None:
        """Write what fits with one fsync; whoever does not fit is told so."""
        room = self._max_bytes - self.bytes_held
        fitting = []
        for waiting in together:
            if waiting.size <= room:
                room -= waiting.size
                fitting.append(waiting)
            else:
                waiting.fail(self._too_full())
        if not fitting:
            return
        try:
            self._write(fitting)
        except BaseException as error:
            told = f"the spool {self.folder} takes nothing now: {getattr(error, 'strerror', None) or error!r}"
            self._give_up_segment()
            self._say_loudly("spool.refuses", error=told)
            for waiting in fitting:
                waiting.fail(told)
            if not isinstance(error, OSError):
                raise
            return
        if self.bytes_held > self._max_bytes * _ALARM:
            self._say_loudly("spool.filling", bytes=self.bytes_held, max_bytes=self._max_bytes)

    def _write(self, fitting: Sequence[_Waiting]) -> None:
        if self.source is None:
            self._make_folder()
            self.source = Source.make(self.folder)
        if self._file is None or self._size >= self._segment_bytes:
            self._file = self._next_segment(self.source)
        number, data = self.last, bytearray()
        for waiting in fitting:
            first = number + 1
            for payload in waiting.payloads:
                number += 1
                data += encode(number, payload)
            waiting.numbers = range(first, number + 1)
        _write_all(self._file, data)
        _sync(self._file)
        self.last = number
        self._size += len(data)
        for waiting in fitting:
            waiting.done = True

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):  # a parent that we may pass through but not read
                sync_folder(self.folder.parent)

    def _next_segment(self, source: Source) -> int:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._sealed[self.last] = self._size
        self._size = 0
        return source.begin_segment(self.last + 1)

    def _give_up_segment(self) -> None:
        """After a failed write or sync, cut off what was not accepted, and go on in a new segment: what the
        kernel still knows of the old one is uncertain."""
        if self._file is None:
            return
        try:
            os.ftruncate(self._file, self._size)
        except OSError as error:
            log.critical("spool.not_truncated", source=self.source and self.source.name, error=str(error))
        os.close(self._file)
        self._file = None
        if self._size:
            self._sealed[self.last] = self._size
            self._size = 0

    def _too_full(self) -> str:
        told = (
            f"the spool {self.folder} is full ({self.bytes_held} of {self._max_bytes} bytes): "
            "Regrow's workers do not take what is in it"
        )
        self._say_loudly("spool.full", error=told)
        return told

    def _say_loudly(self, event: str, **fields: object) -> None:
        now = time.monotonic()
        if now - self._loud_at >= _LOUD_EVERY:
            self._loud_at = now
            log.critical(event, spool=str(self.folder), **fields)

    def _after_fork(self) -> None:
        """In the child: the parent goes on with its source; ours begins with our first entry."""
        if self._file is not None:
            os.close(self._file)
        if self.source is not None:
            self.source.close()
        self._begin()


class _Waiting:
    """One caller's entries on their way to the disk."""

    __slots__ = ("done", "error", "numbers", "payloads", "size")

    def __init__(self, payloads: Sequence[bytes], size: int) -> None:
        self.payloads = payloads
        self.size = size
        self.numbers = range(0)
        self.error: str | None = None
        self.done = False

    def fail(self, error: str) -> None:
        self.error, self.done = error, True


def _sync(file: int) -> None:
    if hasattr(os, "fdatasync"):  # the size is synced with the data, times are not
        os.fdatasync(file)
    else:
        os.fsync(file)


def _write_all(file: int, data: bytearray) -> None:
    with memoryview(data) as left:
        written = 0
        while written < len(data):
            written += os.write(file, left[written:])


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for spool in list(_spools):
        spool._after_fork()  # noqa: SLF001 - this module's own


os.register_at_fork(after_in_child=_after_fork_in_child)

"""One spool and one shipper a process, shared by Celery's hooks and the library's face."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from regrow.configuration import configured
from regrow.dead_letters import spool_entries, spool_sealing
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.spool import Spool
from regrow.dead_letters.spool_entries import Outcome
from regrow.dead_letters.spool_shipping import Destination, Shipper

_LAST_WORDS = 2.0
"""Seconds that an ending process gives its shipper; what is left is adopted by another."""

_spooled: dict[Path, Spooled] = {}
_lock = threading.Lock()


class Spooled:
    """A spool, sealed if this process was told a public key, and the shipper that empties it."""

    def __init__(self, folder: Path, destination: Callable[[], Destination]) -> None:
        self.spool = Spool(folder)
        self.shipper = Shipper(self.spool, destination)
        told = configured().spool_key
        self._key = None if told is None else spool_sealing.public_of_text(told)

    def keep(self, told: Sequence[Capture | Outcome]) -> None:
        """Returns when all of it is on disk.

        SpoolUnavailableError: nothing of it is. LetterRefusedError: it is larger than the spool.
        """
        entries = [spool_entries.to_bytes(each) for each in told]
        key = self._key
        self.spool.append(entries if key is None else [spool_sealing.seal(key, entry) for entry in entries])
        self.shipper.wake()

    def close(self) -> None:
        self.shipper.close(_LAST_WORDS)


def spooled(folder: Path, destination: Callable[[], Destination]) -> Spooled:
    """This process's spool in ``folder``; where it ships to is decided by whoever comes first.

    SettingsError: the folder cannot be used.
    """
    path = folder.absolute()
    with _lock:
        found = _spooled.get(path)
        if found is None:
            found = Spooled(path, destination)
            found.spool.check()
            atexit.register(found.close)
            _spooled[path] = found
        return found

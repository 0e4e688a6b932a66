"""Taking up a changed ``regrow.toml`` without a restart: as a whole, or not at all.

The file is looked at, not watched: whoever has a tick asks, and at most every few seconds its date, size and
inode are compared. A change is taken up when it has stood for a moment, because an editor may empty the file
before it writes it anew, and an empty file is a good one. A file that cannot be used is refused with the same
words as at a start, told once, and what was in force stays in force.

What processes are built around does not change under them: those sections (``FIXED``) wait for a restart, and
that is told too. Where the rest of the file contradicts what stays in force, all of it waits. Secrets in
files of their own, and the environment, are read again with the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from regrow.errors import SettingsError
from regrow.settings import contradictions
from regrow.settings.models import Settings
from regrow.settings.sources import Layers

logger = structlog.get_logger(__name__)

FIXED = (
    "profile",
    "home",
    "redis",
    "database",
    "celery",
    "brokers",
    "startup",
    "shutdown",
    "schedule",
    "dead_letters",
    "web",
    "log",
)
"""Sections that wait for a restart: addresses, pools, queues, keys, beat's schedule, the web server."""

EVERY = 5.0
"""Seconds between two looks at the file."""
SETTLED = 1.0
"""Seconds for which a change has to stand."""

Signature = tuple[int, int, int] | None


@dataclass(frozen=True)
class Standing:
    """How the file stands: ``refused`` with its reason, and the sections that wait for a restart."""

    file: str | None = None
    refused: str | None = None
    waiting: tuple[str, ...] = ()

    @property
    def is_in_force(self) -> bool:
        """Whether all that the file says holds."""
        return self.refused is None and not self.waiting


class Reloader:
    """Looks at one file. ``load`` reads all settings anew; it raises SettingsError."""

    def __init__(
        self,
        load: Callable[[], Settings],
        file: Path | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._file = file
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._taken = self._noticed = _signature(file)
        self.standing = Standing(str(file) if file else None)

    def look(self, current: Settings) -> Settings | None:
        """The settings to go on with when the file has changed and is well; None: those in force stay."""
        if self._file is None or not self._has_changed(self._monotonic()):
            return None
        try:
            new = self._read(self._taken)
        except SettingsError as error:
            self.standing = Standing(str(self._file), str(error), self.standing.waiting)
            for line in str(error).splitlines():
                logger.error("settings.refused", problem=line, remedy="what was in force stays in force")  # noqa: TRY400
            return None
        except Exception as error:
            # A defect of ours: whoever asked says it loudly, and nobody takes the file for being in force.
            refused = f"{self._file}: could not be taken up ({type(error).__name__}); the log says more"
            self.standing = Standing(str(self._file), refused, self.standing.waiting)
            raise
        changed = [name for name in Settings.model_fields if getattr(new, name) != getattr(current, name)]
        waiting = tuple(name for name in FIXED if name in changed)
        merged = new.model_copy(update={name: getattr(current, name) for name in FIXED})
        if problems := list(contradictions(Layers(), merged)):
            # The file is well and holds after a restart; half of it would not be.
            self.standing = Standing(str(self._file), None, tuple(changed))
            logger.warning("settings.waiting", waiting_for_restart=changed, problem="; ".join(problems))
            return None
        self.standing = Standing(str(self._file), None, waiting)
        taken = [name for name in changed if name not in FIXED]
        logger.info("settings.reloaded", sections=taken, waiting_for_restart=list(waiting))
        return merged

    def _has_changed(self, now: float) -> bool:
        """Whether the file is another one than was taken up last, and is still what the last look noticed."""
        pause = EVERY if self._noticed == self._taken else SETTLED
        if now - self._looked_at < pause:
            return False
        self._looked_at = now
        before, self._noticed = self._noticed, _signature(self._file)
        if self._noticed == self._taken or self._noticed != before:
            return False
        self._taken = self._noticed
        return True

    def _read(self, seen: Signature) -> Settings:
        if seen is None:
            raise SettingsError(f"{self._file}: the file is gone. Put it back, or restart without it.")
        return self._load()


def _signature(file: Path | None) -> Signature:
    """Date, size and inode; None without the file. An editor that writes anew changes the inode."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

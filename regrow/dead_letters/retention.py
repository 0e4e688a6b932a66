"""How long settled letters are kept. Unsettled ones are kept for ever.

Archived, then purged, in steps that a kill between any two of them leaves mendable by the next run:

1. write the file under a ``.partial`` name, fsync it, give it its name;
2. read it again, every byte, and compare what it holds with what it says;
3. record it and its letters in one transaction: from here on they are in this archive and in no other;
4. delete those letters, and only those, in chunks that the archive keeps count of; then mark it purged.

The next run removes unfinished files (1), records whole ones that nobody recorded (2), and purges what was
recorded and not purged (3), after it has verified the file again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import IntegrityError

from regrow.dead_letters import archive_store, archives, purging, tombstones
from regrow.dead_letters.archive_store import Archive
from regrow.dead_letters.archives import Verified
from regrow.engine import Engine
from regrow.errors import ArchiveError, TransitionRefusedError
from regrow.ids import uuid7
from regrow.settings import Settings

logger = structlog.get_logger(__name__)

OFF = "off"
LETTERS = 5_000
"""Letters in one archive, at most."""
BYTES = 256 * 1024 * 1024
"""Bodies in one archive, at most; a single letter may be larger."""

_CHUNK = 500
_GIVEN_UP = timedelta(hours=24)
"""An archive whose file was not seen for so long is given up: letters of it that are left go into others."""


def archive_folder(settings: Settings) -> Path | None:
    """Where archives go; a relative folder lies in the state folder. None: letters are purged without."""
    said = settings.dead_letters.archive
    return None if said == OFF else settings.home / said


def cleanup(engine: Engine, max_age_days: int | None = None) -> dict[str, Any]:
    """Archive and purge letters settled more than ``max_age_days`` ago. Unsettled ones are never touched.

    Returns counts: archived, archives, purged, forgotten (events of purged letters, after
    ``dead_letters.tombstone_days``). ArchiveError: the archive cannot be written, read or trusted; what was
    not proven to be in one is not purged. TransitionRefusedError: the age makes no sense.
    """
    days = engine.settings.dead_letters.max_age_days if max_age_days is None else max_age_days
    if days < 0:
        raise TransitionRefusedError(f"max_age_days = {days}: say 0 or more.")
    before = engine.clock() - timedelta(days=days)
    done: dict[str, Any] = {"archived": 0, "archives": 0, "purged": 0, "older_than_days": days}
    folder = archive_folder(engine.settings)
    if folder is None:
        purge = partial(purging.purge_settled, before=before, limit=_CHUNK, now=engine.clock())
        while went := engine.database.run(purge):
            done["purged"] += went
    else:
        with archives.alone_in(folder) as alone:
            if not alone:
                return {**done, "note": f"another run is at work in {folder}"}
            _mend(engine, folder, done)
            while _archive_next(engine, folder, before, done):
                pass
    done["forgotten"] = _forget(engine)
    return done


def _mend(engine: Engine, folder: Path, done: dict[str, Any]) -> None:
    """Finish what a run that died had begun."""
    archives.remove_partial(folder)
    files = archives.whole_files(folder)
    with engine.database.snapshot() as connection:
        recorded = archive_store.recorded(connection)
    for path in files:
        if archives.id_of(path) not in recorded:
            _take_over(engine, path, done)
    with engine.database.snapshot() as connection:
        unpurged = archive_store.unpurged(connection)
    for archive in unpurged:
        path = folder / archive.file
        if path.exists():
            _purge(engine, _as_recorded(path, archive), done)
        elif archive.created_at < engine.clock() - _GIVEN_UP:
            give_up = partial(archive_store.give_up, archive_id=archive.id, now=engine.clock())
            purged = engine.database.run(give_up)
            logger.warning("archive.given_up", archive=archive.id, file=str(path), purged=purged)
        else:
            logger.warning("archive.elsewhere", archive=archive.id, file=str(path))


def _take_over(engine: Engine, path: Path, done: dict[str, Any]) -> None:
    """Record a whole file that nobody recorded; remove it if its letters are all in other archives."""
    found = _verified(path)
    with engine.database.snapshot() as connection:
        settled = archive_store.settled_at(connection, found.letter_ids)
        elsewhere = archive_store.in_archives(connection, found.letter_ids)
    if elsewhere == set(found.letter_ids):
        archives.remove(path)
    elif not elsewhere and settled.keys() == set(found.letter_ids):
        _record(engine, path, found, [*settled.values()], done)
    else:
        # Of another database, or of a time that this one has not seen: not ours to touch.
        logger.warning("archive.unknown", file=str(path), letters=found.count)


def _archive_next(engine: Engine, folder: Path, before: datetime, done: dict[str, Any]) -> bool:
    """One archive of what is due, from its first byte to the purge; False when nothing is due."""
    archive_id = uuid7(engine.clock())
    with engine.database.snapshot() as connection:
        due = archive_store.due(connection, before, limit=LETTERS, limit_bytes=BYTES)
        if not due:
            return False
        lines = archive_store.lines(connection, [letter_id for letter_id, _ in due])
        path = archives.write(folder, archive_id, lines, created_at=engine.clock())
    found = archives.verify(path)
    if set(found.letter_ids) != {letter_id for letter_id, _ in due}:
        raise ArchiveError(f"{path}: not the letters that were written; nothing of it is purged")
    if _record(engine, path, found, [at for _, at in due], done):
        _purge(engine, found, done)
    return True


def _record(
    engine: Engine, path: Path, found: Verified, settled: Sequence[datetime], done: dict[str, Any]
) -> bool:
    """Step 3; False: a run in another folder was faster with one of the letters, and this file goes."""
    try:
        engine.database.run(
            lambda connection: archive_store.record(
                connection, found, file=path.name, settled=settled, now=engine.clock()
            )
        )
    except IntegrityError:
        logger.warning("archive.superseded", file=str(path))
        with engine.database.snapshot() as connection:
            mine = archive_store.by_id(connection, found.archive_id) is not None
        if not mine:  # else somebody has recorded this very file meanwhile, and nothing else has its letters
            archives.remove(path)
        return False
    logger.info("archive.written", file=str(path), letters=found.count)
    done["archives"] += 1
    done["archived"] += found.count
    return True


def _verified(path: Path) -> Verified:
    """An earlier run's file; when it cannot be trusted, a person decides: its letters may be nowhere else."""
    try:
        return archives.verify(path)
    except ArchiveError as error:
        raise ArchiveError(
            f"{error}. Nothing is archived or purged until it is dealt with: put it right, or move it out "
            "of the folder; letters of it that are still there are then archived anew."
        ) from error


def _as_recorded(path: Path, archive: Archive) -> Verified:
    """The file, verified, and still the one that was recorded."""
    found = _verified(path)
    if (found.sha256, found.count) != (archive.sha256, archive.letters):
        raise ArchiveError(f"{path}: not the archive that was recorded; nothing of it is purged")
    return found


def _purge(engine: Engine, found: Verified, done: dict[str, Any]) -> None:
    """Step 4: delete what the verified file holds."""
    for start in range(0, found.count, _CHUNK):
        ids = found.letter_ids[start : start + _CHUNK]
        done["purged"] += engine.database.run(
            partial(purging.purge_archived, archive_id=found.archive_id, ids=ids, now=engine.clock())
        )
    engine.database.run(partial(archive_store.purged, archive_id=found.archive_id, now=engine.clock()))


def _forget(engine: Engine) -> int:
    before = engine.clock() - timedelta(days=engine.settings.dead_letters.tombstone_days)
    _bury_strays(engine, before)
    forgotten, went = 0, 1
    while went:
        went, events = engine.database.run(partial(tombstones.forget, before=before, limit=_CHUNK))
        forgotten += events
    return forgotten


def _bury_strays(engine: Engine, before: datetime) -> None:
    """Events of letters that nobody remembers would stay for ever."""
    last, strays = None, 0
    while True:
        seek = partial(tombstones.bury_strays, before=before, after=last, limit=_CHUNK, now=engine.clock())
        sought = engine.database.run(seek)
        strays, last = strays + sought.strays, sought.last
        if last is None:
            break
    if strays:
        logger.warning("letters.purged_without_tombstone", letters=strays)

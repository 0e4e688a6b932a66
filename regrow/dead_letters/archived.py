"""Looking into archives: which there are, whether they are whole, and where a purged letter is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regrow import audit
from regrow.dead_letters import archive_store, archives, store
from regrow.dead_letters.archive_store import Archive
from regrow.dead_letters.archives import Line
from regrow.dead_letters.retention import archive_folder
from regrow.engine import Engine
from regrow.errors import ArchiveError, LetterNotFoundError, TransitionRefusedError


@dataclass(frozen=True)
class Checked:
    """An archive and what is wrong with it; ``problem`` None: every byte was read, and it is whole."""

    archive: Archive
    path: Path
    problem: str | None


def list_archives(engine: Engine, limit: int | None = None) -> list[Archive]:
    """The newest first."""
    with engine.database.snapshot() as connection:
        return archive_store.newest(connection, limit)


def verify_archives(engine: Engine, *archive_ids: str) -> Iterator[Checked]:
    """Read these archives, or all, and compare each with what was recorded of it."""
    chosen = [_archive(engine, one) for one in archive_ids] if archive_ids else list_archives(engine)
    for archive in chosen:
        path = _folder(engine) / archive.file
        try:
            found = archives.verify(path)
        except ArchiveError as error:
            yield Checked(archive, path, _with_history(str(error), archive))
            continue
        same = (found.sha256, found.count) == (archive.sha256, archive.letters)
        yield Checked(archive, path, None if same else f"{path}: not the archive that was recorded")


def _with_history(problem: str, archive: Archive) -> str:
    if archive.given_up_at is None:
        return problem
    return (
        f"{problem}. It was given up on {archive.given_up_at:%Y-%m-%d}: {archive.purged} of its "
        f"{archive.letters} letters had been purged and are in no other archive; look where it was written"
    )


def find_archived(engine: Engine, letter_or_event: str) -> tuple[Archive, Line]:
    """The archive that holds a letter (its id or an event's), and its line there.

    LetterNotFoundError: in no archive. ArchiveError: the archive is not there or not whole.
    """
    with engine.database.snapshot() as connection:
        letter_id = store.find_id(connection, letter_or_event) or letter_or_event
        archive = archive_store.archive_of(connection, letter_id)
    if archive is None:
        raise LetterNotFoundError(f"no archive holds a letter with the id or event {letter_or_event!r}")
    for line in archives.letters(_folder(engine) / archive.file):
        if line["letter"]["id"] == letter_id:
            return archive, line
    raise ArchiveError(f"{archive.file} should hold letter {letter_id} and does not; verify it")


def export_archive(engine: Engine, archive_id: str, *, actor: str, reason: str) -> Iterator[Line]:
    """The lines of one archive, which is proven whole before the first; audited before that.

    TransitionRefusedError without a reason: what is exported is unredacted.
    """
    if not reason.strip():
        raise TransitionRefusedError("to export an archive needs a reason; say what it is for")
    archive = _archive(engine, archive_id)
    path = _folder(engine) / archive.file
    archives.verify(path)
    engine.database.run(
        lambda connection: audit.write(
            connection,
            at=engine.clock(),
            actor=actor,
            act="archive.export",
            subject=archive.id,
            reason=reason,
            details={"letters": archive.letters},
        )
    )
    return archives.letters(path)


def _archive(engine: Engine, archive_id: str) -> Archive:
    with engine.database.snapshot() as connection:
        found = archive_store.by_id(connection, archive_id)
    if found is None:
        raise LetterNotFoundError(f"no archive has the id {archive_id!r}; `archives list` names them")
    return found


def _folder(engine: Engine) -> Path:
    folder = archive_folder(engine.settings)
    if folder is None:
        raise ArchiveError("dead_letters.archive is 'off': set it to the folder that the archives are in")
    return folder

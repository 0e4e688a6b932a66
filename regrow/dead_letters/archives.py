"""Archive files: compressed JSON lines with a header, a line for each letter, and a trailer that proves them.

    {"archive": "regrow dead letters", "version": 1, "id": ..., "created_at": ...}
    {"letter": {...}, "body": {...}, "attempts": [...], "events": [...], "audit": [...]}
    ...
    {"count": 1, "sha256": "..."}          of every byte above it, uncompressed

A file has its name only once it is whole and on the disk; while it is written its name ends in ``.partial``.
Nothing here knows a database.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from regrow.errors import ArchiveError

FORMAT, VERSION = "regrow dead letters", 1
_PREFIX, _ENDING, _PARTIAL = "dead-letters-", ".jsonl.gz", ".partial"
_LOCK = ".lock"
_BINARY = "base64"
"""How a line says bytes: ``{"base64": ...}``."""

Line = dict[str, Any]


@dataclass(frozen=True)
class Verified:
    """What a file was found to hold, after every byte of it was read."""

    archive_id: str
    count: int
    sha256: str
    letter_ids: tuple[str, ...]


def file_name(archive_id: str) -> str:
    return f"{_PREFIX}{archive_id}{_ENDING}"


def id_of(path: Path) -> str:
    return path.name.removeprefix(_PREFIX).removesuffix(_ENDING)


def whole_files(folder: Path) -> list[Path]:
    """The archives in a folder, oldest first; an unfinished one is none."""
    return sorted(folder.glob(f"{_PREFIX}*{_ENDING}"))


@contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Whether we are the one that works in this folder, until the block ends or the process dies.

    The folder is made if need be. ArchiveError: it cannot be written to.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ArchiveError(
            f"{folder} cannot be written to ({error}): nothing is archived and nothing purged. Give Regrow "
            "the right to, name another folder as dead_letters.archive, or say 'off' to purge without."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def remove_partial(folder: Path) -> int:
    """Remove what a run that died had not finished; for who is alone in the folder. Nothing else has it."""
    left = list(folder.glob(f"{_PREFIX}*{_ENDING}{_PARTIAL}"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def write(folder: Path, archive_id: str, lines: Iterable[Line], *, created_at: datetime) -> Path:
    """Write an archive; when this returns it is whole, has its name, and is on the disk.

    ArchiveError: no space, or another reason of the disk; then nothing is left behind.
    """
    path = folder / file_name(archive_id)
    partial = path.with_name(path.name + _PARTIAL)
    try:
        with _new(partial) as file:
            _fill(file, archive_id, lines, created_at)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ArchiveError(
            f"the archive {path} could not be written ({error}): nothing of it is purged. Make room, "
            "or name another folder as dead_letters.archive."
        ) from error
    return path


def _new(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _fill(file: IO[bytes], archive_id: str, lines: Iterable[Line], created_at: datetime) -> None:
    digest, count = hashlib.sha256(), 0
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:

        def put(line: Mapping[str, Any]) -> None:
            text = json.dumps(line, default=_plain, ensure_ascii=False, separators=(",", ":"))
            data = text.encode("utf-8", "surrogatepass") + b"\n"
            digest.update(data)
            packed.write(data)

        put({"archive": FORMAT, "version": VERSION, "id": archive_id, "created_at": created_at})
        for line in lines:
            put(line)
            count += 1
        trailer = {"count": count, "sha256": digest.hexdigest()}
        packed.write(json.dumps(trailer).encode() + b"\n")


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return {_BINARY: b64encode(value).decode("ascii")}
    raise TypeError(f"{type(value).__name__} has no place in an archive")


def binary(value: Any) -> bytes:
    """The bytes that a line holds in place of ``value``."""
    return b64decode(value[_BINARY])


def verify(path: Path) -> Verified:
    """Read every byte of a file and prove it whole; ArchiveError says what is wrong with it."""
    ids: list[str] = []
    for number, line in enumerate(_lines(path)):
        if number == 0:
            archive_id = str(line["id"])
        elif "letter" in line:
            ids.append(line["letter"]["id"])
        else:
            trailer = line
    return Verified(archive_id, len(ids), trailer["sha256"], tuple(ids))


def letters(path: Path) -> Iterator[Line]:
    """The letters of a file, one after another; ArchiveError when the file proves not to be whole."""
    for line in _lines(path):
        if "letter" in line:
            yield line


def _lines(path: Path) -> Iterator[Line]:
    """Header, letters, trailer, each checked in its place."""
    digest, count, trailer = hashlib.sha256(), -1, None
    try:
        with gzip.open(path, "rb") as file:
            for raw in file:
                if trailer is not None:
                    raise ArchiveError(
                        f"{path}: something follows the trailer; this is not as it was written"
                    )
                line = json.loads(raw.decode("utf-8", "surrogatepass"))
                if count < 0:
                    _check_header(path, line)
                elif "letter" not in line:
                    trailer = _checked_trailer(path, line, count, digest.hexdigest())
                digest.update(raw)
                count += 1
                yield line
    except FileNotFoundError as error:
        raise ArchiveError(f"{path}: the archive is not there") from error
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(f"{path}: the archive cannot be read ({type(error).__name__}: {error})") from error
    if trailer is None:
        raise ArchiveError(f"{path}: the archive has no trailer; it was cut off")


def _check_header(path: Path, line: Line) -> None:
    if line.get("archive") != FORMAT or line.get("version") != VERSION:
        raise ArchiveError(f"{path}: not an archive that this version can read")
    if line["id"] != id_of(path):
        raise ArchiveError(f"{path}: the archive inside is {line['id']}; the file was renamed or replaced")


def _checked_trailer(path: Path, line: Line, count: int, sha256: str) -> Line:
    if line.get("count") != count or line.get("sha256") != sha256:
        raise ArchiveError(f"{path}: the archive's contents are not what its trailer says")
    return line


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove an archive, its name included, from the disk."""
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


__all__ = [
    "Line",
    "Verified",
    "alone_in",
    "binary",
    "file_name",
    "id_of",
    "letters",
    "remove",
    "remove_partial",
    "verify",
    "whole_files",
    "write",
]

"""Captures that cannot become a letter as they are: kept whole, one file each, for a person to look at.

They were accepted by the broker already, so there is nobody left to refuse them to. A disk that takes no file
is an outage like that of a database: nothing is acknowledged, and whoever has the message waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from regrow.dead_letters.spool_source import sync_folder
from regrow.errors import DiskUnavailableError
from regrow.log_events import EventLog

logger = EventLog(__name__)

FOLDER = "unfiled"


def write(home: Path, event_id: str, payload: Any, error: Exception) -> Path:
    """Write ``<home>/unfiled/<digest>.json``, on disk when this returns; the same event overwrites itself.

    DiskUnavailableError: the disk does not take it (full, read-only, gone).
    """
    folder = home / FOLDER
    # Ids come from outside and must not name paths.
    name = hashlib.sha256(event_id.encode()).hexdigest()[:32]
    path = folder / f"{name}.json"
    text = json.dumps({"event_id": event_id, "refused": str(error), "payload": payload}, default=repr)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, text)
        sync_folder(folder)
    except OSError as why:
        raise DiskUnavailableError(
            f"{path} cannot be written: {why}; make room, or make {folder} writable"
        ) from why
    logger.error("letter.unfiled", event_id=event_id, file=str(path), error=str(error))
    return path


def _write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()  # half a file takes up room, and says nothing
        raise

"""Captures that cannot become a letter as they are: kept whole, one file each, for a person to look at.

They were accepted by the broker already, so there is nobody left to refuse them to.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from regrow.dead_letters.spool_source import sync_folder
from regrow.log_events import EventLog

logger = EventLog(__name__)

FOLDER = "unfiled"


def write(home: Path, event_id: str, payload: Any, error: Exception) -> Path:
    """Write ``<home>/unfiled/<digest>.json``, on disk when this returns; the same event overwrites itself."""
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Ids come from outside and must not name paths.
    name = hashlib.sha256(event_id.encode()).hexdigest()[:32]
    path = folder / f"{name}.json"
    fresh = folder / f"{name}.new"
    text = json.dumps({"event_id": event_id, "refused": str(error), "payload": payload}, default=repr)
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(folder)
    logger.error("letter.unfiled", event_id=event_id, file=str(path), error=str(error))
    return path

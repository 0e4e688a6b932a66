"""What a handler gets: one dead letter as a value that cannot be changed. The standard library alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Message:
    """A message that goes home to a Python function.

    ``body``: a JSON value for JSON, text for ``text/...``, else the bytes themselves; nothing is unpickled.
    ``effect_key``: the same for every redrive of this message; an effect that is noted under it in the same
    transaction happens once. ``attempt`` counts redrives from 1. Times are aware UTC.
    """

    body: Any
    raw: bytes = field(repr=False)
    content_type: str
    headers: Mapping[str, Any] = field(repr=False)
    letter_id: str
    effect_key: str
    attempt: int
    message_type: str
    service: str
    error_class: str
    error_message: str = field(repr=False)
    first_failed_at: datetime

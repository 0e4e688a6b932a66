"""Identifiers that sort by time: UUID version 7 of RFC 9562."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime


def uuid7(now: datetime) -> str:
    """A new id as text: 48 bits of milliseconds, then 74 random bits."""
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))

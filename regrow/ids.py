"""Identifiers that sort by time: UUID version 7 of RFC 9562."""

from __future__ import annotations

import os
import secrets
import threading
import uuid
from datetime import datetime

_lock = threading.Lock()
_last = (0, 0)
"""The last millisecond, and the 74 bits that were made in it."""


def uuid7(now: datetime) -> str:
    """A new id as text: 48 bits of milliseconds, then 74 bits that begin at random.

    Ids of one process and millisecond rise in the order in which they were made (RFC 9562, section 6.2).
    """
    global _last  # noqa: PLW0603 - the order is the process's
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    with _lock:
        before, tail = _last
        # The top bit begins as 0, so that there is room above for whatever this millisecond brings.
        tail = tail + 1 + secrets.randbits(32) if milliseconds == before else secrets.randbits(73)
        _last = (milliseconds, tail)
    value = milliseconds << 80 | 0x7 << 76 | (tail >> 62) << 64 | 0b10 << 62 | tail & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))


def _after_fork() -> None:
    """The parent's lock may have been held by a thread that does not exist here; its tail is the parent's."""
    global _lock, _last
    _lock, _last = threading.Lock(), (0, 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

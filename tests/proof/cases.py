"""What the crash points are about, as values: messages that go one way, how a child ended, the hour."""

from __future__ import annotations

import mmap
import struct
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from regrow.dead_letters.captured import Capture, of_message

SHOP = "shop"
NOTE = "Every word of a letter arrives as it was written, ä, ß and 𝄞 too. "


class Clock:
    """The machine's time and what was added by hand, the same for all processes, stopped ones too."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self._memory[:] = struct.pack("d", 0.0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=struct.unpack("d", self._memory[:])[0])

    def advance(self, seconds: float) -> None:
        self._memory[:] = struct.pack("d", struct.unpack("d", self._memory[:])[0] + seconds)


@dataclass
class Case:
    """Messages that go one way together. ``accepted``: events that somebody was told are accepted."""

    captures: list[Capture]
    accepted: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, count: int, failed_at: datetime) -> Case:
        made = []
        for _ in range(count):
            order = uuid.uuid4().hex
            message = {"task": "shop.charge", "args": [order], "kwargs": {"note": NOTE * 3}, "queue": SHOP}
            why = {"error": "the bank was away", "service": "bank", "failed_at": failed_at}
            made.append(of_message(message, idempotency_key=order, **why))
        return cls(made)

    @property
    def events(self) -> list[str]:
        return [captured.event_id for captured in self.captures]


@dataclass(frozen=True)
class Fate:
    """How a child ended: ``killed``, or with ``value``; after ``steps`` points, the last of them named."""

    killed: bool
    steps: int
    last: str
    said: list[str]
    value: Any = None

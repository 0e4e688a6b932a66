"""Before a second copy: what is known of a message that was sent home and never answered for. Pure.

A letter whose outcome did not come in time is sent again, and the first message may still wait in its queue,
or run. Then a second one helps nobody. So its mark is looked at, and the queue; where neither can tell, the
letter is waited for a while longer, and then the copy goes: delivery is at least once, and the effect key
tells repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Mark = Literal["received", "started"]
"""A worker has the message in hand; it has begun to run it."""


@dataclass(frozen=True)
class QueueLook:
    """What a broker tells of a queue.

    ``waiting``: messages that nobody has taken. ``consumers``: None where the broker does not know (Redis).
    ``oldest``: when the oldest redriven message among those that were looked at was sent. ``whole``: all of
    them were looked at.
    """

    waiting: int
    consumers: int | None = None
    oldest: datetime | None = None
    whole: bool = False


@dataclass(frozen=True)
class Traces:
    """What was learned of one message. ``queue`` None: its broker did not answer, or it has no one queue."""

    marks_answer: bool
    mark: Mark | None
    queue: QueueLook | None


@dataclass(frozen=True)
class Hold:
    """Why a letter is not sent again yet. ``certain``: its message is there, a copy would be a second one."""

    why: Literal["in hand", "in queue", "no consumer", "queue not empty", "queue too long", "unknown"]
    certain: bool

    @property
    def told(self) -> str:
        """For people."""
        return _TOLD[self.why]


_TOLD = {
    "in hand": "a worker has its message in hand",
    "in queue": "its message still waits in its queue",
    "no consumer": "its queue has messages, and nobody takes them",
    "queue not empty": "its queue has messages; whether it is among them cannot be told",
    "queue too long": "its queue has more messages than are looked at",
    "unknown": "neither its queue nor a mark can be read",
}


def hold_of(traces: Traces, sent_by: datetime) -> Hold | None:
    """Why to wait with a copy of a message that was sent at ``sent_by`` at the latest; None: it is gone."""
    if traces.mark is not None:
        return Hold("in hand", certain=True)
    if traces.queue is None:
        return Hold("unknown", certain=False)
    waits = _in_queue(traces.queue, sent_by)
    if waits is None and not traces.marks_answer:
        return Hold("unknown", certain=False)  # it is out of its queue, and may run
    return waits


def _in_queue(queue: QueueLook, sent_by: datetime) -> Hold | None:
    if queue.waiting == 0:
        return None
    if queue.oldest is not None and queue.oldest <= sent_by:
        return Hold("in queue", certain=True)
    if queue.whole:  # first in, first out: what was sent before the oldest that is left has been taken
        return None
    if queue.consumers is None:
        return Hold("queue too long", certain=False)
    if queue.consumers == 0:
        return Hold("no consumer", certain=True)
    return Hold("queue not empty", certain=False)

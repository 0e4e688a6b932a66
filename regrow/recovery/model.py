"""What the rules of recovery speak of: what is seen of a service, its course, what one attempt came to.

Frozen data only. Times are aware datetimes in UTC, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

ACTOR = "regrow recovery"
"""Who closes a breaker when a test has passed; whoever else does it is a person."""


class Condition(StrEnum):
    DOWN = "down"
    WELL = "well"
    HELD = "held"  # a person holds its breaker, or it is in maintenance: not ours to mend
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What an attempt came to. LOST: its lease expired. SKIPPED: its precondition was not met."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    SKIPPED = "skipped"
    DRY_RUN = "dry_run"


class Action(StrEnum):
    ATTEMPT = "attempt"
    WAIT = "wait"
    REST = "rest"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Envelope:
    """How often one service is tried: a pause after each attempt, longer by ``backoff``, then no more."""

    interval: float = 60.0
    max_attempts: int = 3
    backoff: float = 2.0

    def pause(self, attempt: int) -> timedelta:
        """The pause after the attempt of this number, the first being 1."""
        return timedelta(seconds=self.interval * self.backoff ** max(0, attempt - 1))

    @property
    def cooldown(self) -> timedelta:
        return timedelta(seconds=self.interval)


@dataclass(frozen=True, slots=True)
class Seen:
    """A service as it stands. ``opening`` names its failure, ``at`` is when that was last seen to be so.

    ``since``: when it began, as far as known. ``trigger``: breaker or check. ``well``: which of the two are
    known to be well. ``closed_by``: who closed the breaker last, if somebody: :data:`ACTOR`, or a person.
    """

    condition: Condition
    at: datetime
    opening: str = ""
    since: datetime | None = None
    trigger: str = ""
    reason: str = ""
    well: tuple[str, ...] = ()
    closed_by: str = ""

    def is_over(self, trigger: str) -> bool:
        """Whether what began with ``trigger`` is over. A check that nobody knows keeps no breaker's alive."""
        if self.condition is Condition.UNKNOWN:
            return trigger in self.well
        return self.condition is Condition.WELL


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run the handler. The token fences: what comes with another one is too late."""

    token: str
    owner: str
    until: datetime
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A person's word to run the handler now."""

    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Course:
    """Where the recovery of one service stands.

    ``opening`` is set while it is down. ``attempts`` were begun for it. ``next_at``: none before this.
    ``recovered_at``: when it came back last.
    """

    opening: str | None = None
    opened_at: datetime | None = None
    trigger: str = ""
    reason: str = ""
    attempts: int = 0
    next_at: datetime | None = None
    locked_at: datetime | None = None
    recovered_at: datetime | None = None
    ordered: Order | None = None
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An event for alerts and reports."""

    event: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """The next course, and what is to be told. ``accepted`` is false for what came too late."""

    course: Course
    told: tuple[Told, ...] = ()
    accepted: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a service now, why, and until when it waits, where that is known."""

    action: Action
    why: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Acted:
    """What a handler did: whether it did what it should, a sentence, and the evidence as JSON values."""

    ok: bool
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recovery:
    """What a handler is told of the attempt that it makes. ``attempt``: its number, 0 when by hand."""

    id: str
    service: str
    attempt: int
    trigger: str
    reason: str
    failed_at: datetime | None

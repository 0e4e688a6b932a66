"""What the rules of incidents speak of. Frozen data; times are aware datetimes in UTC, durations seconds.

A *subject* is what can fail: ``check:NAME``, ``breaker:NAME``, ``recovery:SERVICE``, or ``monitor`` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

State = Literal["well", "waiting", "degraded", "unknown", "flapping", "down"]
"""``waiting``: a breaker that is open, and not yet for long enough to be an incident."""
BAD: tuple[State, ...] = ("down", "flapping", "unknown")
"""What opens an incident. ``degraded`` keeps one open and opens none."""

Kind = Literal["unknown", "recovery", "breaker", "flapping", "down", "monitor"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The mildest first: an incident bears the gravest that its root had."""

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

Status = Literal["open", "closed", "merged"]

MONITOR = "monitor"


def check(name: str) -> str:
    return f"check:{name}"


def breaker(name: str) -> str:
    return f"breaker:{name}"


def recovery(service: str) -> str:
    return f"recovery:{service}"


def name_of(subject: str) -> str:
    """The name without its kind; ``monitor`` is itself."""
    return subject.partition(":")[2] or subject


@dataclass(frozen=True)
class Fact:
    """One thing that was confirmed of a subject.

    ``number``: of two facts of a subject the higher one is later; one that is not higher than the last is
    known already, unless ``level`` says that it tells how things are, not that they changed. ``began``: the
    first bad (or good) raw result, ``at``: when it was confirmed. ``source`` names the fact, once for all.
    """

    subject: str
    number: int
    state: State
    at: datetime
    began: datetime
    source: str
    message: str = ""
    severity: Severity = "medium"
    cause: str | None = None
    maintenance: str | None = None
    level: bool = False


@dataclass(frozen=True)
class Standing:
    """How a subject stands, as far as facts were followed. ``incident``: the open one that it is in."""

    subject: str
    number: int
    state: State
    began: datetime
    at: datetime
    severity: Severity = "medium"
    message: str = ""
    cause: str | None = None
    maintenance: str | None = None
    incident: str | None = None


@dataclass(frozen=True)
class Member:
    """A subject's part in an incident.

    ``down_seconds``: of the times that are over, by raw results; ``down_since``: of the one that lasts.
    ``ended_at``: since when it is well again.
    """

    incident: str
    subject: str
    severity: Severity
    state: State
    joined_at: datetime
    cause: str | None = None
    down_since: datetime | None = None
    down_seconds: float = 0.0
    ended_at: datetime | None = None

    def down_until(self, now: datetime) -> float:
        """Seconds it was down, until now."""
        lasting = (now - self.down_since).total_seconds() if self.down_since else 0.0
        return self.down_seconds + max(0.0, lasting)


@dataclass(frozen=True)
class Incident:
    """``began_at``: first bad raw result; ``detected_at``: confirmed; ``resolved_at``: all well again."""

    id: str
    root: str
    kind: Kind
    severity: Severity
    status: Status
    title: str
    began_at: datetime
    detected_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    closed_by: str | None = None
    root_cause: str | None = None
    merged_into: str | None = None
    reopened: int = 0

    @property
    def is_open(self) -> bool:
        return self.status == "open"


@dataclass(frozen=True)
class Event:
    """One line of a timeline, told once: ``(incident, source)`` is its name."""

    incident: str
    at: datetime
    kind: str
    source: str
    subject: str = ""
    message: str = ""
    actor: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """``reopen_within``: seconds after its end in which the same failure is the same incident."""

    reopen_within: float = 900.0


def worst(*severities: Severity) -> Severity:
    """The gravest of them."""
    return min(severities, key=SEVERITIES.index)


def gravest(*kinds: Kind) -> Kind:
    return max(kinds, key=KINDS.index)

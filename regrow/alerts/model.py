"""What the rules of alerts speak of. Frozen data; times are aware datetimes in UTC, durations seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal

from regrow.incidents.model import SEVERITIES, Severity

Status = Literal["pending", "firing", "resolved"]
NoticeKind = Literal["firing", "escalation", "repeat", "flapping", "resolved", "test", "digest"]

ANY = "*"
"""The subject of a rule that could not look at all."""


@dataclass(frozen=True)
class Signal:
    """What a rule sees of one subject. ``bad`` None: nothing is known, which is no alert and no all-clear.

    ``since``: since when it is so, as far as the source knows. ``parent``: what it is bad because of, if that
    is told by itself. ``incident``: the open one that it belongs to. ``check``: the subject whose maintenance
    windows hold for it.
    """

    rule: str
    subject: str
    bad: bool | None
    severity: Severity
    message: str
    since: datetime | None = None
    incident: str | None = None
    parent: str | None = None
    check: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.rule, self.subject

    @property
    def group(self) -> str:
        """What is told together: everything of an incident, else what one rule finds."""
        return f"incident:{self.incident}" if self.incident else f"rule:{self.rule}"


@dataclass(frozen=True)
class Alert:
    """One subject of one rule, from the moment it is bad until it is over and will not come again.

    ``paged_at``: when the escalation that runs began; ``step``: the last step that was told, -1 before the
    first; ``episode``: how often an escalation began. ``reached``: the channels that were told. ``held_by``:
    why nobody is told now. ``fine_since``: since when a flapping one is fine.
    """

    id: str
    rule: str
    subject: str
    severity: Severity
    status: Status
    message: str
    since: datetime
    seen_at: datetime
    group: str
    incident: str | None = None
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    fine_since: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    paged_at: datetime | None = None
    notified_at: datetime | None = None
    episode: int = 0
    step: int = -1
    flapping: bool = False
    held_by: str | None = None
    reached: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.rule, self.subject


@dataclass(frozen=True)
class Notice:
    """What is to be told by one channel: once for each alert, step and channel. ``body``: JSON values."""

    alert: str
    step: str
    channel: str
    kind: NoticeKind
    at: datetime
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reason:
    """One step of the pipeline: its name, whether the alert went on, and why in words."""

    step: str
    passed: bool
    why: str


@dataclass(frozen=True)
class Silence:
    """Nobody is told of what matches all of its patterns. An empty ``rule`` or ``subject`` matches all."""

    id: str
    starts: datetime
    ends: datetime
    rule: str = ""
    subject: str = ""
    severity: Severity | None = None
    actor: str = ""
    reason: str = ""

    def holds_for(self, signal: Signal, now: datetime) -> bool:
        return (
            self.starts <= now < self.ends
            and (not self.rule or fnmatchcase(signal.rule, self.rule))
            and (not self.subject or fnmatchcase(signal.subject, self.subject))
            and self.severity in {None, signal.severity}
        )


@dataclass(frozen=True)
class Step:
    after: timedelta
    targets: tuple[str, ...]
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """Who is told of a severity, and when."""

    response_time: float
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Policy:
    """The settings, as the rules need them."""

    holds: Mapping[str, timedelta]
    routes: Mapping[Severity, Route]
    acknowledged_for: timedelta = timedelta(hours=4)
    repeat: timedelta = timedelta(hours=4)
    flap_within: timedelta = timedelta(minutes=15)
    group_within: timedelta = timedelta(minutes=5)


@dataclass(frozen=True)
class Around:
    """What stands around the alerts: ``planned`` subjects (with their window), silences, and the incidents
    that somebody acknowledged (when, and who)."""

    silences: tuple[Silence, ...] = ()
    planned: Mapping[str, str] = field(default_factory=dict)
    acknowledged: Mapping[str, tuple[datetime, str]] = field(default_factory=dict)


def is_graver(one: Severity, other: Severity) -> bool:
    return SEVERITIES.index(one) < SEVERITIES.index(other)

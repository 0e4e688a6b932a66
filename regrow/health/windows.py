"""Maintenance windows: when they are, and which checks they hold for. Pure rules.

Spans are in UTC, half-open; how hours of a place become such spans: ``regrow.recurrence``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from regrow.health.rules import Declared
from regrow.recurrence import days_of, span_on

Kind = Literal["recurring", "planned", "emergency"]

LONGEST_EMERGENCY = timedelta(hours=4)
NOTICE = timedelta(hours=24)
"""How long before its beginning a window should be announced; one that is not is an emergency."""


@dataclass(frozen=True)
class Scope:
    """Whom a window holds for: these checks, and those that bear all these labels; or everything."""

    checks: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    everything: bool = False

    def holds_for(self, check: Declared, window: str) -> bool:
        """Whether ``check`` is in it, or names the window itself."""
        if self.everything or check.name in self.checks or window in check.maintenance:
            return True
        return bool(self.labels) and all(check.labels.get(name) == value for name, value in self.labels)

    def __str__(self) -> str:
        if self.everything:
            return "everything"
        labels = [f"{name}={value}" for name, value in self.labels]
        return ", ".join([*self.checks, *labels]) or "checks that name it"


@dataclass(frozen=True)
class Window:
    """One span of maintenance in UTC, ``starts`` included, ``ends`` not. ``name``: as declared, or an id."""

    name: str
    kind: Kind
    starts: datetime
    ends: datetime
    scope: Scope
    reason: str = ""
    actor: str = ""
    announced: datetime | None = None

    def covers(self, moment: datetime) -> bool:
        return self.starts <= moment < self.ends


@dataclass(frozen=True)
class Recurring:
    """A window of ``regrow.toml``: the days as RFC 5545 says them, and hours on the clock of a place."""

    name: str
    rule: str
    start: time
    end: time
    zone: str = "UTC"
    scope: Scope = field(default_factory=Scope)
    reason: str = ""

    def between(self, since: datetime, until: datetime) -> list[Window]:
        """The windows that have a moment in ``[since, until)``, in order."""
        days = days_of(self.rule, (since - timedelta(days=2)).date(), (until + timedelta(days=2)).date())
        spans = (span_on(day, self.start, self.end, ZoneInfo(self.zone)) for day in days)
        return [
            Window(self.name, "recurring", starts, ends, self.scope, self.reason)
            for starts, ends in spans
            if starts < until and ends > since
        ]


def covering(windows: Iterable[Window], check: Declared, moment: datetime) -> str | None:
    """The window that holds for a check at a moment; the one that ends last when there are several."""
    found = [
        window for window in windows if window.covers(moment) and window.scope.holds_for(check, window.name)
    ]
    return max(found, key=lambda window: (window.ends, window.name)).name if found else None


def kind_at(announced: datetime, starts: datetime) -> Kind:
    """Planned when it was announced in time, else an emergency."""
    return "planned" if starts - announced >= NOTICE else "emergency"


def scope_of(told: Mapping[str, object]) -> Scope:
    """A scope as it was kept."""
    checks, labels = told.get("checks"), told.get("labels")
    return Scope(
        tuple(map(str, checks)) if isinstance(checks, list) else (),
        tuple(sorted((str(name), str(value)) for name, value in labels.items()))
        if isinstance(labels, dict)
        else (),
        bool(told.get("everything")),
    )

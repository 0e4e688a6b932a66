"""Alerts as they were known at the end of a period, whenever somebody asks. Pure.

A row of an alert says how it is now: one that came again within a quarter of an hour is the same row, and an
acknowledgement that timed out is gone from it. What was told, done and silenced by then stays where it was
written: from that, and from the row, comes how things stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from regrow.alerts.model import Alert, NoticeKind, Signal, Silence
from regrow.incidents.model import Severity

LATE = timedelta(minutes=1)
"""A notice that is not settled for longer than this was not delivered, so far."""
_BEGAN: frozenset[NoticeKind] = frozenset({"firing", "flapping", "escalation", "repeat"})


@dataclass(frozen=True)
class Told:
    """A notice that was decided at ``at``. ``refused``: for good; ``settled_at`` None: it waits."""

    at: datetime
    kind: NoticeKind
    step: str
    channel: str
    severity: Severity
    settled_at: datetime | None
    refused: bool


@dataclass(frozen=True)
class Acknowledged:
    at: datetime
    by: str


@dataclass(frozen=True)
class Lasted:
    """An alert that fired at some moment of the period, as its end knew it.

    ``escalations``: steps after the first that were told in the period. ``silenced``: a silence held for it
    at some moment of both. ``undelivered``: channels that a notice did not reach, refused in the period or
    waiting at its end for longer than a minute.
    """

    id: str
    rule: str
    subject: str
    severity: Severity
    fired_at: datetime
    resolved_at: datetime | None
    acknowledged: Acknowledged | None
    escalations: int
    silenced: bool
    undelivered: tuple[str, ...]


def lasted(
    alert: Alert,
    told: Sequence[Told],
    acknowledged: Sequence[Acknowledged],
    silences: Sequence[Silence],
    since: datetime,
    until: datetime,
) -> Lasted | None:
    """The alert as of ``until``; None when it did not fire in ``[since, until)``.

    ``told``: its notices, in their order; ``acknowledged``: all that was said of it and of its incident.
    """
    told = [one for one in told if one.at < until]
    fired = [one.at for one in told if one.kind in _BEGAN]
    if alert.fired_at is not None and alert.fired_at < until:
        fired.append(alert.fired_at)
    over = _over(alert, told, until)
    if not fired or (over is not None and over <= since):
        return None
    fired_at = min(fired)
    severity = told[-1].severity if told else alert.severity
    return Lasted(
        alert.id,
        alert.rule,
        alert.subject,
        severity,
        fired_at,
        over,
        min(
            (one for one in acknowledged if fired_at <= one.at < until), key=lambda one: one.at, default=None
        ),
        len({one.step for one in told if one.kind == "escalation" and one.at >= since}),
        _was_silenced(alert, severity, silences, max(since, fired_at), min(until, over or until)),
        tuple(sorted({one.channel for one in told if _is_undelivered(one, since, until)})),
    )


def _over(alert: Alert, told: Sequence[Told], until: datetime) -> datetime | None:
    if alert.resolved_at is not None and alert.resolved_at <= until:
        return alert.resolved_at
    return told[-1].at if told and told[-1].kind == "resolved" else None


def _was_silenced(
    alert: Alert, severity: Severity, silences: Sequence[Silence], since: datetime, until: datetime
) -> bool:
    signal = Signal(alert.rule, alert.subject, True, severity, "")
    return any(
        (at := max(since, silence.starts)) < until and silence.holds_for(signal, at) for silence in silences
    )


def _is_undelivered(one: Told, since: datetime, until: datetime) -> bool:
    settled = one.settled_at is not None and one.settled_at < until
    if settled and one.settled_at is not None:
        return one.refused and one.settled_at >= since
    return one.at < until - LATE

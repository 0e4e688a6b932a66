"""Incidents as tasks, pages, alerts, reports and the command line ask for them; what people do to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from regrow.audit import Act
from regrow.engine import Engine
from regrow.errors import IncidentNotFoundError, IncidentRefusedError
from regrow.ids import uuid7
from regrow.incidents import model, review, store
from regrow.incidents.following import follow
from regrow.incidents.model import Event, Incident, Member, Status
from regrow.incidents.review import markdown
from regrow.incidents.store import Incidents
from regrow.slo import service as slo
from regrow.slo import times
from regrow.slo.times import MeanTimes, Outage

__all__ = [
    "Dossier",
    "acknowledge",
    "acknowledge_if_open",
    "as_markdown",
    "as_of",
    "as_review",
    "close",
    "dossier",
    "follow",
    "listed",
    "markdown",
    "mean_times",
    "mean_times_of",
    "members",
    "note",
    "of_period",
    "prune",
    "set_root_cause",
]


@dataclass(frozen=True)
class Dossier:
    """An incident with everything that is known of it, at one moment."""

    incident: Incident
    members: tuple[Member, ...]
    timeline: tuple[Event, ...]
    at: datetime


def listed(engine: Engine, *, status: Status | None = None, limit: int = 100) -> list[Incident]:
    """The newest incidents first, merged ones aside. StoreUnavailableError when the database is away."""
    return Incidents(engine.database).newest(status=status, limit=limit)


def of_period(engine: Engine, since: datetime, until: datetime, limit: int = 1_000) -> list[Incident]:
    """Incidents that lasted at some moment of ``[since, until)``, the newest first."""
    return Incidents(engine.database).newest(since=since, until=until, limit=limit)


def mean_times(engine: Engine, since: datetime, until: datetime, uptime: timedelta) -> MeanTimes:
    """MTTD, MTTA, MTTR and MTBF of the period's incidents; ``uptime``: how long all was up in it.

    Silences of the monitor are no failures of a service, and are left out.
    """
    return mean_times_of(of_period(engine, since, until), uptime)


def mean_times_of(found: Iterable[Incident], uptime: timedelta) -> MeanTimes:
    """The same of these incidents."""
    outages = [
        Outage(one.title, one.began_at, one.detected_at, one.acknowledged_at, one.resolved_at)
        for one in found
        if one.kind not in {"monitor", "unknown"}
    ]
    return times.mean_times(outages, uptime)


def as_of(one: Incident, moment: datetime) -> Incident:
    """The incident as it was known at that moment; detection aside, which is what tells of it."""
    acknowledged = one.acknowledged_at is not None and one.acknowledged_at <= moment
    ended = one.resolved_at is not None and one.resolved_at <= moment
    return replace(
        one,
        status=one.status if ended else "open",
        acknowledged_at=one.acknowledged_at if acknowledged else None,
        acknowledged_by=one.acknowledged_by if acknowledged else None,
        resolved_at=one.resolved_at if ended else None,
        closed_by=one.closed_by if ended else None,
    )


def members(engine: Engine, ids: list[str]) -> list[Member]:
    """What is in these incidents."""
    return Incidents(engine.database).members(ids)


def dossier(engine: Engine, incident_id: str) -> Dossier:
    """One incident, its members, its timeline. IncidentNotFoundError."""
    incident, found, timeline = Incidents(engine.database).get(incident_id)
    return Dossier(incident, tuple(found), tuple(timeline), engine.clock())


def as_review(engine: Engine, found: Dossier) -> dict[str, Any]:
    """The post-incident review as JSON values, but for times; see ``regrow.incidents.review``.

    Budgets are of the windows that ended with the incident, so that a review says the same next year.
    """
    one = found.incident
    subjects = {member.subject for member in found.members}
    checks = [name for name in engine.settings.health.checks if model.check(name) in subjects]
    costs = slo.costs(engine, checks, one.began_at, one.resolved_at or found.at)
    return review.review(one, found.members, found.timeline, costs, found.at)


def as_markdown(engine: Engine, found: Dossier) -> str:
    """The same as a page for people."""
    return markdown(as_review(engine, found))


def acknowledge(engine: Engine, incident_id: str, *, actor: str, reason: str) -> Incident:
    """Somebody looks after it. Said again by another, the first one's moment stays."""
    now = engine.clock()

    def rule(one: Incident) -> Incident:
        _must_be_open(one)
        if one.acknowledged_at is not None:
            return replace(one, acknowledged_by=actor)
        return replace(one, acknowledged_at=now, acknowledged_by=actor)

    return _act(engine, incident_id, rule, "acknowledged", actor, reason)


def acknowledge_if_open(engine: Engine, incident_id: str, *, actor: str, reason: str) -> bool:
    """The same of one that may have ended, or become part of another, meanwhile; whether it was open."""
    try:
        acknowledge(engine, incident_id, actor=actor, reason=reason)
    except (IncidentRefusedError, IncidentNotFoundError):
        return False
    return True


def note(engine: Engine, incident_id: str, text: str, *, actor: str) -> Incident:
    """A line of a person's in the timeline, also afterwards."""
    return _act(engine, incident_id, _must_not_be_merged, "note", actor, text)


def set_root_cause(engine: Engine, incident_id: str, text: str, *, actor: str) -> Incident:
    """What it came from, in a person's words; a later word replaces it, the timeline has both."""

    def rule(one: Incident) -> Incident:
        return replace(_must_not_be_merged(one), root_cause=text)

    return _act(engine, incident_id, rule, "cause", actor, text)


def close(engine: Engine, incident_id: str, *, actor: str, reason: str) -> Incident:
    """End it by hand. What is still down in it opens another one with its next change, not before."""
    now = engine.clock()

    def rule(one: Incident) -> Incident:
        _must_be_open(one)
        return replace(one, status="closed", resolved_at=now, closed_by=actor)

    return _act(engine, incident_id, rule, "closed", actor, reason)


def prune(engine: Engine) -> int:
    """Delete incidents that ended longer ago than ``incidents.retention_days``; how many went."""
    before = engine.clock() - timedelta(days=engine.settings.incidents.retention_days)
    return store.prune(engine.database, before)


def _act(
    engine: Engine,
    incident_id: str,
    rule: Callable[[Incident], Incident],
    kind: str,
    actor: str,
    said: str,
) -> Incident:
    now = engine.clock()
    if not said.strip():
        raise IncidentRefusedError("say something: the text must not be empty")
    event = Event(incident_id, now, kind, f"act:{uuid7(now)}", message=said.strip(), actor=actor)
    act = Act(actor, f"incident.{kind}", incident_id, said.strip(), now)
    return Incidents(engine.database).change(incident_id, rule, event, act)


def _must_be_open(one: Incident) -> Incident:
    _must_not_be_merged(one)
    if not one.is_open:
        ended = f" since {one.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if one.resolved_at else ""
        raise IncidentRefusedError(f"incident {one.id} is closed{ended}")
    return one


def _must_not_be_merged(one: Incident) -> Incident:
    if one.status == "merged":
        raise IncidentRefusedError(
            f"incident {one.id} is part of incident {one.merged_into}; act on that one"
        )
    return one

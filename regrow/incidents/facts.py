"""Facts out of what others wrote down: changes of checks, transitions of breakers, events of recovery, and
out of what nobody wrote down: the silence of the monitor. Pure rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

from regrow.health.causes import Graph
from regrow.health.rules import Declared, stale_after
from regrow.health.status import Change
from regrow.incidents import model
from regrow.incidents.model import BAD, MONITOR, Fact, Severity, Standing, State

_STATE_OF: Mapping[str, State] = {
    "healthy": "well",
    "degraded": "degraded",
    "unhealthy": "down",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Transition:
    """A transition of a breaker; ``by_hand``: a person switched it."""

    breaker: str
    epoch: int
    to_state: str
    at: datetime
    reason: str
    by_hand: bool


@dataclass(frozen=True)
class Locking:
    """A recovery that was locked, or is free again; ``id`` of the row."""

    id: int
    service: str
    locked: bool
    at: datetime
    severity: Severity
    message: str


@dataclass(frozen=True)
class Heard:
    """When something was last heard of a check, what its results amount to, and the changes told of it."""

    at: datetime
    status: str
    flapping: bool
    number: int


def of_change(change: Change, graph: Graph) -> Fact:
    """A confirmed change of a check."""
    subject = model.check(change.check)
    declared = graph.get(subject)
    return Fact(
        subject=subject,
        number=change.number,
        state="flapping" if change.flapping else _STATE_OF[change.to_status],
        at=change.at,
        began=change.began,
        source=f"{subject}:{change.number}",
        message=change.message,
        severity=cast("Severity", declared.severity) if declared else "medium",
        cause=model.check(change.cause) if change.cause else None,
        maintenance=change.maintenance,
    )


def of_breakers(
    transitions: Iterable[Transition],
    standings: Mapping[str, Standing],
    graph: Graph,
    *,
    open_after: float,
    severity: Severity,
    planned: Mapping[str, str],
    now: datetime,
) -> Iterator[Fact]:
    """Breakers that stay open for ``open_after`` seconds, and those that closed.

    What a person holds open is a decision, not a failure. ``planned``: subjects in a maintenance window.
    """
    waiting = {
        one.subject: Fact(
            one.subject, one.number, one.state, one.at, one.began, f"{one.subject}:{one.number}"
        )
        for one in standings.values()
        if one.state in {"waiting", "down"} and one.subject.startswith("breaker:")
    }
    waiting = {name: replace(fact, message=standings[name].message) for name, fact in waiting.items()}
    known = {name: one.number for name, one in standings.items()}

    def stayed(fact: Fact, until: datetime) -> Iterator[Fact]:
        due = fact.began + timedelta(seconds=open_after)
        if fact.state == "waiting" and due <= until:
            declared = graph.get(fact.subject)
            own = cast("Severity", declared.severity) if declared else severity
            window = planned.get(fact.subject)
            yield replace(
                fact,
                state="down",
                at=due,
                level=True,
                severity=own,
                maintenance=window,
                source=f"{fact.source}:stays",
            )

    for told in sorted(transitions, key=lambda told: (told.at, told.epoch)):
        subject = model.breaker(told.breaker)
        if told.epoch <= known.get(subject, 0):
            continue
        known[subject] = told.epoch
        source = f"{subject}:{told.epoch}"
        opened = told.to_state != "closed" and not told.by_hand
        before = waiting.get(subject)
        if opened and before is None:
            waiting[subject] = Fact(subject, told.epoch, "waiting", told.at, told.at, source, told.reason)
            yield waiting[subject]
        elif not opened and before is not None:
            yield from stayed(before, told.at)
            del waiting[subject]
            yield Fact(subject, told.epoch, "well", told.at, told.at, source, told.reason)
    for fact in waiting.values():
        yield from stayed(fact, now)


def of_recovery(events: Iterable[Locking]) -> Iterator[Fact]:
    """Recoveries that wait for a person are failures of their own, or part of their service's."""
    for event in events:
        subject = model.recovery(event.service)
        yield Fact(
            subject=subject,
            number=event.id,
            state="down" if event.locked else "well",
            at=event.at,
            began=event.at,
            source=f"{subject}:{event.id}",
            message=event.message,
            severity=event.severity,
        )


def of_silence(
    heard: Mapping[str, Heard],
    standings: Mapping[str, Standing],
    graph: Graph,
    *,
    silent_after: float,
    severity: Severity,
    planned: Mapping[str, str],
    gaps: Sequence[tuple[datetime, datetime]],
    now: datetime,
) -> Iterator[Fact]:
    """The monitor's own silence, and single checks of which nothing comes.

    ``heard``: of the declared checks that ever ran. ``gaps``: spans without any result that are over.
    """
    monitor = standings.get(MONITOR)
    silent = monitor is not None and monitor.state == "unknown"
    for since, until in gaps:
        if (until - since).total_seconds() > silent_after and not silent:
            yield _monitor(since, since + timedelta(seconds=silent_after), severity, planned)
            yield _monitor_back(until)
    newest = max((one.at for one in heard.values()), default=None)
    if newest is None:
        return
    if (now - newest).total_seconds() > silent_after:
        if not silent:
            yield _monitor(newest, now, severity, planned)
        return
    if silent and monitor is not None:
        first = next((until for since, until in gaps if since >= monitor.began), newest)
        yield _monitor_back(first)
    yield from _of_single_checks(heard, standings, graph, silent_after, now)


def of_what_is_gone(standings: Mapping[str, Standing], graph: Graph, now: datetime) -> Iterator[Fact]:
    """Checks that are declared no more cannot become well: what they had is over."""
    for one in standings.values():
        if one.subject.startswith("check:") and one.subject not in graph and one.state != "well":
            source = f"{one.subject}:{one.number}:gone"
            yield _level(one, "well", now, now, source, "this check is declared no more")


def of_ended_maintenance(
    standings: Mapping[str, Standing], graph: Graph, planned: Mapping[str, str], now: datetime
) -> Iterator[Fact]:
    """What is bad, was nobody's failure because of a window, and has outlived it by a few looks."""
    for one in standings.values():
        if one.state not in BAD or one.incident is not None or one.maintenance is None:
            continue
        root = standings.get(one.cause) if one.cause else None
        if one.subject in planned or (one.cause in planned):
            continue
        if root is not None and root.state in BAD and root.maintenance is not None:
            continue
        if (now - (root.at if root else one.at)).total_seconds() > _patience(one.subject, graph):
            source = f"{one.subject}:{one.number}:after_maintenance"
            yield _level(one, one.state, now, one.began, source, one.message)


def _of_single_checks(
    heard: Mapping[str, Heard],
    standings: Mapping[str, Standing],
    graph: Graph,
    silent_after: float,
    now: datetime,
) -> Iterator[Fact]:
    for name, one in heard.items():
        standing, declared = standings.get(name), graph.get(name)
        if declared is None or standing is None:
            continue
        age = (now - one.at).total_seconds()
        by_silence = standing.message.startswith(_NOTHING)
        if age > max(silent_after, stale_after(declared.interval, declared.timeout)):
            if standing.state != "unknown":
                said = f"{_NOTHING} {one.at:%H:%M:%S} UTC"
                yield _level(standing, "unknown", now, one.at, f"{name}:silent:{one.at.isoformat()}", said)
        elif standing.state == "unknown" and by_silence and one.number == standing.number:
            state: State = "flapping" if one.flapping else _STATE_OF[one.status]
            source = f"{name}:heard:{one.at.isoformat()}"
            yield _level(standing, state, one.at, one.at, source, "results come again")


_NOTHING = "nothing has been heard of it since"


def _level(one: Standing, state: State, at: datetime, began: datetime, source: str, said: str) -> Fact:
    return Fact(
        subject=one.subject,
        number=one.number,
        state=state,
        at=at,
        began=began,
        source=source,
        message=said,
        severity=one.severity,
        cause=one.cause if state in BAD else None,
        level=True,
    )


def _monitor(since: datetime, at: datetime, severity: Severity, planned: Mapping[str, str]) -> Fact:
    source = f"{MONITOR}:{since.isoformat()}"
    said = f"no check has had a result since {since:%Y-%m-%d %H:%M:%S} UTC"
    window = planned.get(MONITOR)
    return Fact(MONITOR, 0, "unknown", at, since, source, said, severity, maintenance=window, level=True)


def _monitor_back(at: datetime) -> Fact:
    return Fact(MONITOR, 0, "well", at, at, f"{MONITOR}:{at.isoformat()}", "results come again", level=True)


def _patience(subject: str, graph: Graph) -> float:
    declared: Declared | None = graph.get(subject)
    return stale_after(declared.interval, declared.timeout) if declared else 60.0

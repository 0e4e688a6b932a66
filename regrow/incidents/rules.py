"""How facts become incidents: one at each root, however many hang on it. Pure rules.

A subject that goes bad joins the open incident of its root, or opens one; an incident that ended a moment ago
goes on instead. When what a root stands on turns out to be down as well, the two incidents become one. An
incident ends when everything in it is well. What goes bad in a maintenance window, or because of something
that is in one, opens none until the window is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from regrow.health.causes import Graph, cause_of
from regrow.incidents.model import (
    BAD,
    Event,
    Fact,
    Incident,
    Kind,
    Member,
    Policy,
    Standing,
    gravest,
    name_of,
    worst,
)

NewId = Callable[[datetime], str]


@dataclass
class Book:
    """What is known before a batch of facts, and after it; ``events`` are new lines of timelines.

    ``incidents``: those that are open, and those that ended so lately that they might go on.
    """

    standings: dict[str, Standing] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    members: dict[tuple[str, str], Member] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def of(self, incident: str) -> list[Member]:
        return [member for (owner, _), member in self.members.items() if owner == incident]


def fold(
    book: Book,
    facts: Iterable[Fact],
    graph: Graph,
    policy: Policy,
    new_id: NewId,
    planned: Mapping[str, str] | None = None,
) -> Book:
    """The book after these facts; the one that is given stays as it is.

    ``planned``: subjects that are in a maintenance window now, and which one.
    """
    after = Book(dict(book.standings), dict(book.incidents), dict(book.members), list(book.events))
    folding = _Folding(after, graph, policy, new_id, planned or {})
    for fact in sorted(facts, key=_order):
        folding.follow(fact)
    return after


@dataclass
class _Folding:
    book: Book
    graph: Graph
    policy: Policy
    new_id: NewId
    planned: Mapping[str, str]

    def follow(self, fact: Fact) -> None:
        before = self.book.standings.get(fact.subject)
        if before is not None and fact.number <= before.number and not fact.level:
            return
        held = before.incident if before else None
        self._stand(fact, held)
        if fact.state in BAD:
            self._went_bad(fact, held)
        elif held is not None:
            self._changed(fact, held)
            self._close_if_over(held, fact)
        if fact.state in BAD and before is not None and before.maintenance and fact.maintenance is None:
            self._leave_maintenance(fact)

    def _stand(self, fact: Fact, held: str | None) -> None:
        before = self.book.standings.get(fact.subject)
        self.book.standings[fact.subject] = Standing(
            subject=fact.subject,
            number=max(fact.number, before.number if before else 0),
            state=fact.state,
            began=fact.began,
            at=fact.at,
            severity=fact.severity,
            message=fact.message,
            cause=fact.cause,
            maintenance=fact.maintenance,
            incident=held,
        )

    def _went_bad(self, fact: Fact, held: str | None) -> None:
        root = self._root_of(fact)
        window = fact.maintenance or self._window_of(root)
        if window is not None:
            standing = self.book.standings[fact.subject]
            self.book.standings[fact.subject] = replace(standing, maintenance=window)
            if held is not None:
                self._changed(fact, held)
            return
        target = self._incident_for(fact, root, held)
        if held is not None and held != target.id:
            self._merge(held, target.id, fact)
        self._changed(fact, target.id)
        self._gather(target.id, fact)

    def _root_of(self, fact: Fact) -> str:
        down = self._down()
        down.setdefault(fact.subject, fact.began)
        return cause_of(fact.subject, down, self.graph) or fact.cause or fact.subject

    def _down(self) -> dict[str, datetime]:
        return {
            name: standing.began
            for name, standing in self.book.standings.items()
            if standing.state in {"down", "flapping"}
        }

    def _window_of(self, root: str) -> str | None:
        """The window that a root is in; None when it is in none, or in an incident in spite of it."""
        standing = self.book.standings.get(root)
        if standing is not None and (standing.incident is not None or standing.maintenance is not None):
            return standing.maintenance if standing.incident is None else None
        return self.planned.get(root)

    def _incident_for(self, fact: Fact, root: str, held: str | None) -> Incident:
        """The open one of the root, the one that the subject is in, one that goes on, or a new one."""
        standing = self.book.standings.get(root)
        if standing is not None and standing.incident is not None:
            return self.book.incidents[standing.incident]
        if (found := self._open_of(root)) is not None:
            return found
        if held is not None:
            return self.book.incidents[held]
        return self._rerooted(fact, root) or self._reopened(fact, root) or self._opened(fact, root)

    def _rerooted(self, fact: Fact, root: str) -> Incident | None:
        """The oldest one of something that is down because of this root: the same failure all along."""
        down = self._down()
        found = [
            one
            for one in self.book.incidents.values()
            if one.is_open and one.root in down and cause_of(one.root, down, self.graph) == root
        ]
        if root != fact.subject or not found:
            return None
        first = min(found, key=lambda one: (one.began_at, one.id))
        why = f"{name_of(first.root)} is down because of {name_of(root)}"
        self._tell(first.id, fact, "rerooted", why, "rerooted")
        moved = replace(first, root=root, kind=_kind(fact), title=_title(root, fact))
        self.book.incidents[moved.id] = moved
        return moved

    def _open_of(self, root: str) -> Incident | None:
        """One that a child opened before anything was told of its root."""
        found = [one for one in self.book.incidents.values() if one.is_open and one.root == root]
        return min(found, key=lambda one: (one.began_at, one.id), default=None)

    def _reopened(self, fact: Fact, root: str) -> Incident | None:
        latest = fact.began - timedelta(seconds=self.policy.reopen_within)
        ended = [
            one
            for one in self.book.incidents.values()
            if one.status == "closed" and one.root == root and _ended(one) >= latest
        ]
        if not ended:
            return None
        last = max(ended, key=lambda one: (_ended(one), one.id))
        again = replace(last, status="open", resolved_at=None, closed_by=None, reopened=last.reopened + 1)
        self.book.incidents[again.id] = again
        self._tell(again.id, fact, "reopened", f"{name_of(root)} failed again: {fact.message}", "reopened")
        return again

    def _opened(self, fact: Fact, root: str) -> Incident:
        made = Incident(
            id=self.new_id(fact.at),
            root=root,
            kind=_kind(fact),
            severity=fact.severity,
            status="open",
            title=_title(root, fact),
            began_at=fact.began,
            detected_at=fact.at,
        )
        self.book.incidents[made.id] = made
        return made

    def _changed(self, fact: Fact, incident_id: str) -> None:
        """The subject's part in its incident after a fact, with a line of the timeline."""
        key = (incident_id, fact.subject)
        member = self.book.members.get(key)
        joins = member is None
        if member is None:
            member = Member(incident_id, fact.subject, fact.severity, "well", fact.at, cause=fact.cause)
        self.book.members[key] = _moved(member, fact)
        standing = self.book.standings[fact.subject]
        self.book.standings[fact.subject] = replace(standing, incident=incident_id)
        self._grade(incident_id, fact)
        self._tell_change(incident_id, fact, joins=joins)

    def _grade(self, incident_id: str, fact: Fact) -> None:
        one = self.book.incidents[incident_id]
        if fact.state not in BAD:
            return
        own = fact.subject == one.root
        kind = gravest(one.kind, _kind(fact)) if own else one.kind
        self.book.incidents[incident_id] = replace(
            one,
            severity=worst(one.severity, fact.severity),
            kind=kind,
            title=_title(one.root, fact) if own and (kind != one.kind or not one.title) else one.title,
            began_at=min(one.began_at, fact.began) if not one.reopened else one.began_at,
            detected_at=min(one.detected_at, fact.at) if not one.reopened else one.detected_at,
        )

    def _tell_change(self, incident_id: str, fact: Fact, *, joins: bool) -> None:
        if joins and fact.state in BAD:
            first = f"first sign of it: {fact.message}" if fact.message else "first sign of it"
            self._tell(incident_id, fact, "first_bad", first, "first", at=fact.began)
        word = {"down": "confirmed", "well": "recovered"}.get(fact.state, fact.state)
        self._tell(incident_id, fact, word, fact.message, fact.state)

    def _gather(self, target: str, fact: Fact) -> None:
        """Incidents whose root turns out to be down because of something in this one become part of it."""
        down = self._down()
        for other in [one for one in self.book.incidents.values() if one.is_open and one.id != target]:
            if other.root not in down:
                continue
            root = cause_of(other.root, down, self.graph)
            if root is not None and (target, root) in self.book.members:
                self._merge(other.id, target, fact)

    def _merge(self, source: str, target: str, fact: Fact) -> None:
        gone, into = self.book.incidents[source], self.book.incidents[target]
        for member in self.book.of(source):
            del self.book.members[(source, member.subject)]
            moved = replace(member, incident=target, cause=member.cause or into.root)
            self.book.members[(target, member.subject)] = moved
            standing = self.book.standings[member.subject]
            self.book.standings[member.subject] = replace(standing, incident=target)
        acknowledged = into.acknowledged_at is None and gone.acknowledged_at is not None
        self.book.incidents[target] = replace(
            into,
            severity=worst(into.severity, gone.severity),
            began_at=min(into.began_at, gone.began_at),
            detected_at=min(into.detected_at, gone.detected_at),
            acknowledged_at=gone.acknowledged_at if acknowledged else into.acknowledged_at,
            acknowledged_by=gone.acknowledged_by if acknowledged else into.acknowledged_by,
        )
        self.book.incidents[source] = replace(gone, status="merged", merged_into=target, resolved_at=fact.at)
        why = f"{name_of(gone.root)} is down because of {name_of(into.root)}"
        self._tell(
            target, fact, "merged", f"incident {source} is part of this one: {why}", f"merged:{source}"
        )
        self._tell(source, fact, "merged", f"part of incident {target}: {why}", f"into:{target}")

    def _close_if_over(self, incident_id: str, fact: Fact) -> None:
        members = self.book.of(incident_id)
        if any(member.state != "well" for member in members):
            return
        ends = [member.ended_at for member in members if member.ended_at is not None]
        resolved = max([*ends, self.book.incidents[incident_id].began_at])
        self.book.incidents[incident_id] = replace(
            self.book.incidents[incident_id], status="closed", resolved_at=resolved
        )
        for member in members:
            standing = self.book.standings[member.subject]
            self.book.standings[member.subject] = replace(standing, incident=None)
        self._tell(incident_id, fact, "closed", "everything in it is well again", "closed")

    def _leave_maintenance(self, fact: Fact) -> None:
        """What went bad because of a subject whose window is over now is told now."""
        for standing in list(self.book.standings.values()):
            if standing.state not in BAD or standing.incident is not None or standing.cause != fact.subject:
                continue
            if standing.maintenance is None or standing.subject in self.planned:
                continue
            waiting = Fact(
                subject=standing.subject,
                number=standing.number,
                state=standing.state,
                at=fact.at,
                began=standing.began,
                source=f"{fact.source}:{standing.subject}",
                message=standing.message,
                severity=standing.severity,
                cause=standing.cause,
                level=True,
            )
            self._went_bad(waiting, None)

    def _tell(
        self, incident: str, fact: Fact, kind: str, message: str, part: str, at: datetime | None = None
    ) -> None:
        source = f"{fact.source}:{part}"
        data = {"cause": fact.cause} if fact.cause else {}
        self.book.events.append(
            Event(incident, at or fact.at, kind, source, fact.subject, message, data=data)
        )


def _order(fact: Fact) -> tuple[datetime, bool, str, int]:
    """By time; of one sweep's facts those first that are of themselves."""
    return fact.at, fact.cause is not None, fact.subject, fact.number


def _ended(one: Incident) -> datetime:
    return one.resolved_at or one.began_at


def _moved(member: Member, fact: Fact) -> Member:
    """The member after a fact; a time in which it was down ends with the first result that says otherwise."""
    seconds, since = member.down_seconds, member.down_since
    if fact.state == "down":
        since = since or fact.began
    elif since is not None and fact.state != "flapping":
        seconds += max(0.0, (fact.began - since).total_seconds())
        since = None
    return replace(
        member,
        state=fact.state,
        severity=worst(member.severity, fact.severity) if fact.state in BAD else member.severity,
        cause=member.cause or fact.cause,
        down_since=since,
        down_seconds=seconds,
        ended_at=fact.began if fact.state == "well" else None,
    )


def _kind(fact: Fact) -> Kind:
    of = fact.subject.partition(":")[0]
    if of == "monitor":
        return "monitor"
    if of == "breaker":
        return "breaker"
    if of == "recovery":
        return "recovery"
    return "down" if fact.state not in {"flapping", "unknown"} else fact.state


def _title(root: str, fact: Fact) -> str:
    if root != fact.subject:
        return f"{name_of(root)} is down"
    return {
        "monitor": "the monitor is silent",
        "breaker": f"circuit breaker {name_of(root)} stays open",
        "recovery": f"recovery of {name_of(root)} is locked",
        "flapping": f"{name_of(root)} is flapping",
        "unknown": f"nothing is known of {name_of(root)}",
        "down": f"{name_of(root)} is down",
    }[_kind(fact)]

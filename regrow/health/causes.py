"""Which of the checks that are down is the root, and which are down because of it. Pure rules.

A check stands on those that it ``depends_on``. When a check is down and one that it stands on is down too,
the latter is its cause, if it began in time: at most one look (its interval, timeout and the usual grace)
after its child, because a child may be probed seconds before its parent is. Inheritance silences notices; it
never hides that the child was down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from regrow.arrows import reached
from regrow.health.rules import GRACE, Declared, Result
from regrow.health.status import Change

Graph = Mapping[str, Declared]
"""The declared checks by name."""


@dataclass(frozen=True)
class RootCause:
    """A check that is down of itself, and those that are down because of it, nearest to it first."""

    check: str
    began: datetime
    children: tuple[str, ...] = ()


def root_causes(changes: Iterable[Change], graph: Graph) -> list[RootCause]:
    """A burst of changes as one entry for each root, the one that began first being the first.

    ``changes``: any number of each check, in any order; the latest of a check says whether it is down.
    """
    latest: dict[str, Change] = {}
    for change in changes:
        if change.check not in latest or change.number > latest[change.check].number:
            latest[change.check] = change
    down = {name: change.began for name, change in latest.items() if change.to_status == "unhealthy"}
    return roots_of(down, graph)


def roots_of(down: Mapping[str, datetime], graph: Graph) -> list[RootCause]:
    """The same for checks that are down, each with the time at which that began."""
    families: dict[str, list[str]] = {}
    for name in down:
        families.setdefault(cause_of(name, down, graph) or name, []).append(name)
    return [
        RootCause(root, down[root], tuple(_by_distance(root, members, graph)))
        for root, members in sorted(families.items(), key=lambda item: (down[item[0]], item[0]))
    ]


def cause_of(name: str, down: Mapping[str, datetime], graph: Graph) -> str | None:
    """The root that a check is down because of; None when it is down of itself, or not down.

    Of several roots the one that began first is named, then the first by name.
    """
    if name not in down:
        return None
    found: set[str] = set()
    seen, ahead = {name}, [name]
    while ahead:
        child = ahead.pop()
        parents = [parent for parent in _parents(child, graph) if _explains(parent, child, down, graph)]
        if not parents and child != name:
            found.add(child)
        ahead += [parent for parent in parents if parent not in seen]
        seen.update(parents)
    return min(found, key=lambda root: (down[root], root), default=None)


def ancestors(name: str, graph: Graph) -> list[str]:
    """All checks that one stands on, the nearest first."""
    return reached(name, lambda check: _parents(check, graph))


def in_doubt(last: Mapping[str, Result], graph: Graph) -> set[str]:
    """Checks to look at now, before they are due: a child has failed since they were last looked at."""
    failing = [name for name, result in last.items() if name in graph and result.status == "unhealthy"]
    return {
        parent
        for name in failing
        for parent in _parents(name, graph)
        if parent in last and last[parent].at < last[name].at and last[parent].status != "unhealthy"
    }


def _parents(name: str, graph: Graph) -> tuple[str, ...]:
    check = graph.get(name)
    return () if check is None else tuple(parent for parent in check.depends_on if parent in graph)


def _explains(parent: str, child: str, down: Mapping[str, datetime], graph: Graph) -> bool:
    if parent not in down:
        return False
    look = graph[parent].interval + graph[parent].timeout + GRACE
    return down[parent] <= down[child] + timedelta(seconds=look)


def _by_distance(root: str, members: Iterable[str], graph: Graph) -> list[str]:
    """The members but for the root itself, those first that stand on it directly."""
    return sorted(
        (name for name in members if name != root),
        key=lambda name: (len(ancestors(name, graph)), name),
    )

"""What becomes of many notices that waited for a channel: what is still so is told, the rest at once.

Of each alert the newest notice says all that the ones before it said. An alert that came and went without a
word by this channel needs none of its own any more. What is folded is counted and named in a digest; nothing
is dropped. An end is never folded when its beginning was told: somebody may still be at it. Pure rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from regrow.alerts.model import NoticeKind
from regrow.incidents.model import SEVERITIES

NAMED = 20
"""Alerts that a digest names; of the others it tells how many there are."""


@dataclass(frozen=True)
class Waiting:
    """A notice that waits: its number in the outbox, and what it says."""

    id: int
    alert: str
    kind: NoticeKind
    at: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Folded:
    """``over``: the last notices of alerts that came and went; ``superseded``: what a later one replaces, and
    tests."""

    over: tuple[Waiting, ...] = ()
    superseded: tuple[Waiting, ...] = ()

    @property
    def all(self) -> tuple[Waiting, ...]:
        return (*self.over, *self.superseded)


def fold(
    waiting: Iterable[Waiting], last: Mapping[str, tuple[int, NoticeKind]], told: frozenset[str]
) -> Folded:
    """What of these needs no telling by itself.

    ``last``: number and kind of the newest notice that waits for this channel, by alert; ``told``: the alerts
    that it has told of before.
    """
    over, superseded = [], []
    for one in waiting:
        if one.kind == "digest":
            continue
        number, kind = last[one.alert]
        if one.id < number or one.kind == "test":
            superseded.append(one)
        elif kind == "resolved" and one.alert not in told:
            over.append(one)
    return Folded(tuple(over), tuple(superseded))


def digest(
    before: Mapping[str, Any] | None, folded: Folded, channel: str, alert: str, now: datetime
) -> dict[str, Any]:
    """The body of the digest that tells of these, and of what is in it already."""
    kinds = Counter(before["kinds"] if before else {})
    kinds.update(one.kind for one in folded.all)
    went = (before["went"] if before else 0) + len(folded.over)
    named = [*(before["named"] if before else ()), *map(_name, folded.over)]
    named.sort(key=lambda one: (SEVERITIES.index(one["severity"]), one["since"]))
    first = min((one.at.isoformat() for one in folded.all), default=now.isoformat())
    count = sum(kinds.values())
    return {
        "alert": before["alert"] if before else alert,
        "rule": "outbox",
        "subject": channel,
        "severity": named[0]["severity"] if named else "low",
        "kind": "digest",
        "message": f"{count} notices that waited: {went} alerts came and went; what stands is told by itself",
        "since": min(before["since"], first) if before else first,
        "at": now.isoformat(),
        "incident": None,
        "targets": [],
        "step": None,
        "response_time": 0,
        "others": 0,
        "kinds": dict(kinds),
        "went": went,
        "named": named[:NAMED],
    }


def summary(body: Mapping[str, Any]) -> Sequence[str]:
    """What a digest says beside its message, a fact a line."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(body["kinds"].items()))
    told = [f"notices: {kinds}"]
    told += [
        f"[{one['severity']}] {one['rule']} {one['subject']} from {one['since']} to {one['until']}: "
        f"{one['message']}"
        for one in body["named"]
    ]
    if (more := body["went"] - len(body["named"])) > 0:
        told.append(f"and {more} more: regrow alerts list")
    return told


def _name(one: Waiting) -> dict[str, Any]:
    names = ("alert", "rule", "subject", "severity", "message", "since")
    return {**{name: one.body[name] for name in names}, "until": one.body["at"]}

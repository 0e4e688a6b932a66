"""The level as it stands: what the score led to, what a person ordered, and which of the two holds.

Values and pure functions. Times are ms of Redis' clock. A revision is a time too, so that it grows over a
Redis that lost its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regrow.degradation.levels import Level
from regrow.degradation.rules import NOTHING_KNOWN, Course, Score

HOLD = 60.0  # seconds; until a worker has told its own


@dataclass(frozen=True)
class Order:
    """What a person said last. ``level`` None: that the score decides again. ``until`` 0: until then."""

    revision: int
    level: Level | None
    actor: str
    reason: str
    at: int
    until: int = 0

    def stands(self, now: int) -> bool:
        return self.level is not None and (not self.until or now < self.until)


@dataclass(frozen=True)
class Policy:
    """What applications need of the settings, told along with the level. ``hold`` in seconds.

    ``permits``: level -> the kinds of requests that are served; ``paths``: prefix -> kind of request;
    ``features``: name -> the worst level at which it is on.
    """

    hold: float = HOLD
    when_unknown: Level = Level.MINOR
    permits: Mapping[str, tuple[str, ...]] | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """What Redis keeps. ``level`` holds ``since``, because of ``reason`` (by ``actor``, if a person's)."""

    revision: int
    course: Course
    level: Level
    since: int
    reason: str
    actor: str = ""
    score: Score = NOTHING_KNOWN
    order: Order | None = None
    policy: Policy = field(default_factory=Policy)

    def level_at(self, now: int) -> Level:
        """The level that holds at ``now``, also when an order ran out that nobody has looked at since."""
        order = self.order
        if order is not None and order.level is not None and order.stands(now):
            return order.level
        return self.course.level


@dataclass(frozen=True)
class Change:
    """The level changed. ``old`` None: the first one that was ever told. ``automatic``: the score's level."""

    revision: int
    at: int
    old: Level | None
    new: Level
    automatic: Level
    reason: str
    actor: str
    low: float
    high: float


@dataclass(frozen=True)
class Seen:
    """What a process makes of the state. ``until``: when it must look again at what that means (ms)."""

    level: Level
    known: bool
    why: str
    until: int


def settled(
    before: State | None, course: Course, score: Score, order: Order | None, policy: Policy, now: int
) -> tuple[State, Change | None]:
    """The state after a look, and the change if the level is another one than before."""
    revision = max(now, before.revision + 1 if before else 1)
    held = order if order is not None and order.stands(now) else None
    level = course.level if held is None or held.level is None else held.level
    state = State(
        revision=revision,
        course=course,
        level=level,
        since=before.since if before is not None and before.level is level else now,
        reason=held.reason if held else str(score),
        actor=held.actor if held else "",
        score=score,
        order=order,
        policy=policy,
    )
    if before is not None and before.level is level:
        return state, None
    reason, actor = state.reason, state.actor
    if before is not None and before.actor and held is None and order is not None:
        reason, actor = _ended(order, score)
    old = before.level if before else None
    return state, Change(revision, now, old, level, course.level, reason, actor, score.low, score.high)


def _ended(order: Order, score: Score) -> tuple[str, str]:
    """Why a level that a person had ordered holds no more, and who ended it."""
    if order.level is not None:
        return f"the order of {order.actor} ran out; {score}", ""
    return f"{order.reason}; {score}" if order.reason else str(score), order.actor


def newer(ours: Order | None, theirs: Order | None) -> Order | None:
    """The later of two orders."""
    if ours is None or (theirs is not None and theirs.revision > ours.revision):
        return theirs
    return ours


def seen(state: State | None, heard: int, now: int) -> Seen:
    """What holds at ``now`` for a process that last heard from Redis at ``heard``, namely ``state``.

    A level that nobody confirmed for the policy's ``hold`` is unknown: then it is no better than
    ``when_unknown``, and no better than it was. The score's level is confirmed by the monitor; a person's
    stands by itself, as long as Redis says so.
    """
    if state is None:
        return Seen(Policy().when_unknown, known=False, why="nobody has told a level", until=now + 1_000)
    ordered = state.order is not None and state.order.stands(now)
    confirmed, hold = heard if ordered else state.course.at, round(state.policy.hold * 1000)
    level = state.level_at(now)
    if now - confirmed > hold:
        why = f"not confirmed for {(now - confirmed) / 1000:.0f} s; it was {level}"
        return Seen(max(level, state.policy.when_unknown), known=False, why=why, until=now + 1_000)
    until = confirmed + hold + 1
    if ordered and state.order is not None and state.order.until:
        until = min(until, state.order.until)
    return Seen(level, known=True, why=state.reason, until=until)


def as_json(state: State) -> dict[str, Any]:
    """As Redis keeps it."""
    order, course, score, policy = state.order, state.course, state.score, state.policy
    return {
        "revision": state.revision,
        "level": state.level,
        "since": state.since,
        "reason": state.reason,
        "actor": state.actor,
        "course": [course.level, course.at, list(course.since)],
        "score": [score.low, score.high, [list(pull) for pull in score.pulls]],
        "order": order and [order.revision, order.level, order.actor, order.reason, order.at, order.until],
        "policy": {
            "hold": policy.hold,
            "when_unknown": policy.when_unknown,
            "permits": policy.permits and {level: list(kinds) for level, kinds in policy.permits.items()},
            "paths": dict(policy.paths),
            "features": dict(policy.features),
        },
    }


def from_json(told: Mapping[str, Any]) -> State:
    """What :func:`as_json` wrote. ValueError, TypeError or KeyError for anything else."""
    level, at, since = told["course"]
    low, high, pulls = told["score"]
    policy, order = told["policy"], told["order"]
    permits = policy["permits"]
    return State(
        revision=int(told["revision"]),
        course=Course(Level(level), int(at), _moments(since)),
        level=Level(told["level"]),
        since=int(told["since"]),
        reason=str(told["reason"]),
        actor=str(told["actor"]),
        score=Score(float(low), float(high), tuple((str(n), str(s), float(c)) for n, s, c in pulls)),
        order=order and Order(order[0], order[1] and Level(order[1]), *order[2:]),
        policy=Policy(
            hold=float(policy["hold"]),
            when_unknown=Level(policy["when_unknown"]),
            permits=permits and {str(name): tuple(kinds) for name, kinds in permits.items()},
            paths={str(path): str(kind) for path, kind in policy["paths"].items()},
            features={str(name): str(worst) for name, worst in policy["features"].items()},
        ),
    )


def _moments(told: Any) -> Any:
    first, second, third, fourth = (None if moment is None else int(moment) for moment in told)
    return (first, second, third, fourth)

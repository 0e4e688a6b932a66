"""What the signs of a worker amount to: healthy, saturated, wedged, dead or unknown. Pure.

Ages are seconds. A ping alone proves that a worker's loop turns, not that its pool does anything: with both
children blocked it is green, and the queue's list is empty. So the verdict rests on what waits, what is in
hand, and when a task last began or ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from regrow.health.rules import Status

Verdict = Literal["healthy", "saturated", "wedged", "dead", "unknown"]


@dataclass(frozen=True)
class Limits:
    """``max_age``: of a heartbeat; ``stuck_after``: without progress; ``backlog``: messages."""

    max_age: float
    stuck_after: float
    backlog: int


@dataclass(frozen=True)
class Worker:
    """What is known of one worker. None is: not known.

    ``pong``: whether it answered a ping. ``state``, ``age``, ``silent``: of its heartbeat what it said, how
    long ago its loop gave a pulse, and how long ago its process was heard of. ``pool``: children, ``active``:
    tasks they run, ``held``: messages it has taken and not begun. ``progress``: how long ago a task of it
    began or ended, or it started; endless when it runs nothing and says no more. ``stalled``: for how long
    work has been seen waiting while ``done``, the number of tasks that ended, stayed as it is. ``troubles``:
    for what parts of it wait; ``paused``: the queues that it leaves alone meanwhile, on purpose.
    """

    node: str
    pong: bool | None = None
    state: str | None = None
    age: float | None = None
    silent: float | None = None
    queues: frozenset[str] | None = None
    pool: int | None = None
    active: int | None = None
    held: int | None = None
    progress: float | None = None
    stalled: float | None = None
    done: int | None = None
    troubles: tuple[str, ...] = ()
    paused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Judged:
    """``works``: whether it can be counted on to take what comes. ``troubles``: for what parts of it wait.

    ``starts``: it is on its way, and has not said yet which queues it will take from.
    """

    node: str
    verdict: Verdict
    reason: str
    works: bool = False
    troubles: tuple[str, ...] = ()
    starts: bool = False


def waiting_for(worker: Worker, waiting: Mapping[str, int | None], unacked: int | None) -> int:
    """Messages that this worker could be working on and is not: in its queues, and in its hand.

    Without a word of its own about what it holds, what anybody has in hand beyond what this one runs.
    """
    taken = waiting if worker.queues is None else {name: waiting.get(name) for name in worker.queues}
    held = worker.held if worker.held is not None else max(0, (unacked or 0) - (worker.active or 0))
    return sum(count or 0 for count in taken.values()) + held


def judge(worker: Worker, waits: int | None, limits: Limits) -> Judged:
    """The verdict over one worker. ``waits``: messages, None when the broker did not answer."""
    early = _dead(worker, limits) or _cut_off(worker, waits) or _idle(worker)
    judged = early or _at_work(worker, waits or 0, limits)
    # What the dead last said, or one whose broker is away, tells nothing of now.
    return judged if judged.verdict in {"dead", "unknown"} else replace(judged, troubles=worker.troubles)


def _dead(worker: Worker, limits: Limits) -> Judged | None:
    """Whether it gives signs of life at all, and its loop turns."""
    if worker.pong:
        return None
    if worker.age is None:
        if worker.pong is None:
            return Judged(worker.node, "unknown", "nobody could ask it, and it has no heartbeat")
        return Judged(worker.node, "dead", "it does not answer, and it has no heartbeat")
    if abs(worker.age) <= limits.max_age:
        return None
    if worker.silent is not None and abs(worker.silent) <= limits.max_age:
        said = f"its process lives, but its loop has stood still for {worker.age:.0f} s"
        return Judged(worker.node, "wedged", said)
    return Judged(worker.node, "dead", f"no sign of life for {abs(worker.age):.0f} s")


def _cut_off(worker: Worker, waits: int | None) -> Judged | None:
    if worker.state == "broker_away":
        return Judged(worker.node, "unknown", "it cannot reach its broker")
    if waits is None:
        return Judged(worker.node, "unknown", "the broker does not answer; whether it gets on nobody knows")
    return None


def _idle(worker: Worker) -> Judged | None:
    """Alive, and on purpose without work."""
    if worker.state in {"starting", "draining"}:
        return Judged(worker.node, "healthy", f"it is {worker.state}", starts=worker.state == "starting")
    if worker.queues is not None and not worker.queues:
        if worker.paused:
            return Judged(worker.node, "healthy", f"it waits: {'; '.join(worker.troubles)}")
        return Judged(worker.node, "wedged", "it takes from no queue")
    return None


def _at_work(worker: Worker, waiting: int, limits: Limits) -> Judged:
    if waiting and worker.stalled is not None and worker.stalled > limits.stuck_after:
        if worker.progress is None:
            said = f"{waiting} wait, and it does not say whether it gets on"
            return Judged(worker.node, "unknown", said)
        if worker.progress > limits.stuck_after:
            return Judged(worker.node, "wedged", _stuck(worker, waiting))
    if waiting >= limits.backlog:
        return Judged(worker.node, "saturated", f"it gets on, but {waiting} wait", works=True)
    return Judged(worker.node, "healthy", "it works", works=True)


def _stuck(worker: Worker, waiting: int) -> str:
    idle = worker.stalled if worker.progress == math.inf else worker.progress
    since = f"no task began or ended for {idle or 0:.0f} s"
    if worker.pool is not None and worker.active is not None and worker.active >= worker.pool:
        return f"all {worker.pool} of its children are busy, {waiting} wait, and {since}"
    return f"{waiting} wait, it has room, and {since}"


@dataclass(frozen=True)
class Overall:
    """The verdict over all workers of an app, and what it means for the check."""

    status: Status
    verdict: Verdict
    message: str


def overall(judged: Sequence[Judged], deserted: Sequence[str]) -> Overall:
    """``deserted``: queues that no working one takes from."""
    if not judged:
        return Overall("unknown", "unknown", "no worker has given a sign of life in the last 10 minutes")
    working = [worker for worker in judged if worker.works]
    others = [worker for worker in judged if worker.verdict in {"wedged", "dead", "unknown"}]
    said = "; ".join(f"{worker.node} is {worker.verdict}: {worker.reason}" for worker in others[:5])
    if not working:
        return _none_works(judged, said)
    saturated = [worker for worker in working if worker.verdict == "saturated"]
    busy = "; ".join(f"{worker.node} is saturated: {worker.reason}" for worker in saturated[:5])
    waiting = [f"{worker.node} waits: {trouble}" for worker in judged for trouble in worker.troubles]
    waits = "; ".join(waiting[:5])
    told = "; ".join(part for part in (f"{len(working)} of {len(judged)} work", said, busy, waits) if part)
    verdict: Verdict = "saturated" if len(saturated) == len(working) else "healthy"
    if deserted:
        starts = [worker.node for worker in judged if worker.starts]
        if starts:
            said = f"nobody knows yet who takes from {', '.join(deserted)}: {starts[0]} is starting"
            return Overall("unknown", verdict, f"{said}; {told}")
        return Overall("unhealthy", verdict, f"no worker takes from {', '.join(deserted)}; {told}")
    if others or saturated or waits:
        return Overall("degraded", verdict, told)
    named = ", ".join(worker.node for worker in working[:5])
    more = f" and {len(working) - 5} more" if len(working) > 5 else ""
    return Overall("healthy", "healthy", f"{len(working)} alive: {named}{more}")


def _none_works(judged: Sequence[Judged], said: str) -> Overall:
    verdicts = {worker.verdict for worker in judged}
    if verdicts == {"healthy"}:
        resting = "; ".join(f"{worker.node}: {worker.reason}" for worker in judged[:5])
        return Overall("degraded", "healthy", f"alive, but {resting}")
    # Whoever is cut off may be well: what is dead beside him says nothing about the app as a whole.
    if "unknown" in verdicts:
        return Overall("unknown", "unknown", said)
    return Overall("unhealthy", "wedged" if "wedged" in verdicts else "dead", said)

"""Heartbeats of workers and beats: read from Redis or a container's own file, and how fresh they are.

A heartbeat is one line of JSON, ``{"at": epoch seconds, "pid": int, "node": str, "state": str}``, renewed
every few seconds by the process's own loop. ``began`` says when the process started, ``seen`` when another
thread of it published the line: a process whose ``seen`` is fresh and whose ``at`` is not lives, and its
loop stands still. Of a worker also ``app``, ``queues`` (what it takes from), ``pool`` (children),
``active`` (tasks they run), ``held`` (taken, not begun), ``done`` (tasks that ended), ``done_at`` and
``begun_at`` (the last end and the last beginning); of a beat ``sent_at`` (its last message) and ``every``
(seconds of its shortest interval). ``troubles``, where there are any: for what parts of it wait;
``paused``: the queues that a worker leaves alone meanwhile.

In Redis it lies under ``regrow:{heartbeat}:<kind>:<name>`` and vanishes ten minutes after the last one, so
that the dead can be told from those who never were. ``regrow:{heartbeat}:<kind>`` is the set of their
names: reading it costs the same whatever else lies in that Redis, and all of it is in one slot of a
cluster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from regrow.health.rules import Finding, Status, finding

if TYPE_CHECKING:
    import redis

Kind = Literal["worker", "beat"]
PREFIX = "regrow:{heartbeat}:"
OWN_APP = "regrow"
KEPT = 600
"""Seconds that the heartbeat of a process stays in Redis after its last one."""


@dataclass(frozen=True)
class Heartbeat:
    """``age``: seconds since the last pulse by our clock; negative when the other clock is ahead.

    ``queues``: what a worker takes from; None when it does not say. ``told``: the whole line.
    """

    node: str
    state: str
    age: float
    queues: frozenset[str] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)

    def is_fresh(self, max_age: float) -> bool:
        return abs(self.age) <= max_age

    @property
    def troubles(self) -> list[str]:
        """For what parts of the process wait."""
        found = self.told.get("troubles")
        return [str(trouble) for trouble in found] if isinstance(found, list) else []

    @property
    def paused(self) -> frozenset[str]:
        """The queues that a worker leaves alone on purpose."""
        found = self.told.get("paused")
        return frozenset(map(str, found)) if isinstance(found, list) else frozenset()

    @property
    def app(self) -> str:
        return str(self.told.get("app", OWN_APP))

    @property
    def silent(self) -> float | None:
        """Seconds since the process was heard of, whatever its loop does; None when it does not say."""
        return self.ago("seen")

    def number(self, name: str) -> float | None:
        """A number of the line; None when it says none."""
        value = self.told.get(name)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        return value if known else None

    def ago(self, name: str) -> float | None:
        """How long ago a time of the line was, in seconds."""
        at, given = self.number("at"), self.number(name)
        return None if at is None or given is None else self.age + at - given


def from_redis(url: str, kind: Kind, timeout: float, now: float) -> list[Heartbeat]:
    """All heartbeats of a kind. Raises redis.RedisError or OSError when Redis does not answer."""
    from regrow.health.checks.redis_client import asking

    with asking(url, timeout) as client:
        return of_kind(client, kind, now)


def of_kind(client: redis.Redis, kind: Kind, now: float) -> list[Heartbeat]:
    """The same on a client that is there already."""
    found = (parse(line, now) for line in kept(client, kind))
    return [heartbeat for heartbeat in found if heartbeat is not None]


def keep(client: redis.Redis, kind: str, name: str, told: Mapping[str, Any], now: float) -> None:
    """Leave a heartbeat in Redis, for everybody. ``now``: epoch seconds, when this process says so."""
    line = json.dumps({**told, "seen": round(now, 3)})
    with client.pipeline(transaction=True) as both:
        both.set(f"{PREFIX}{kind}:{name}", line, ex=KEPT)
        both.sadd(f"{PREFIX}{kind}", name)
        both.execute()


def withdraw(client: redis.Redis, kind: str, name: str) -> None:
    """The process ended in order: nobody shall miss it."""
    with client.pipeline(transaction=True) as both:
        both.delete(f"{PREFIX}{kind}:{name}")
        both.srem(f"{PREFIX}{kind}", name)
        both.execute()


def kept(client: redis.Redis, kind: str) -> list[str]:
    """All heartbeats of a kind as they were left, by name. Names whose heartbeat has vanished go too."""
    names = sorted(cast("set[str]", client.smembers(f"{PREFIX}{kind}")))
    if not names:
        return []
    lines = cast("list[str | None]", client.mget([f"{PREFIX}{kind}:{name}" for name in names]))
    if gone := [name for name, line in zip(names, lines, strict=True) if line is None]:
        client.srem(f"{PREFIX}{kind}", *gone)  # one that comes back this moment says so again in seconds
    return [line for line in lines if line is not None]


def asked(read: Callable[[], list[Heartbeat]], verdict: Callable[[list[Heartbeat]], Finding]) -> Finding:
    """The verdict over what ``read`` finds. Without the store that keeps them, nothing is known of them."""
    import redis

    try:
        found = read()
    except (redis.RedisError, OSError) as error:
        said = f"Redis, which keeps the heartbeats, does not answer: {type(error).__name__}: {error}"
        return finding("unknown", said)
    return verdict(found)


def from_file(path: Path, now: float) -> Heartbeat | None:
    """The heartbeat of this container; None when there is none. The file's mtime is its time."""
    try:
        written = path.stat().st_mtime
        told = parse(path.read_text(encoding="utf-8"), now)
    except (OSError, UnicodeDecodeError):
        return None
    return Heartbeat(told.node, told.state, now - written) if told else None


def parse(line: str, now: float) -> Heartbeat | None:
    """One line as a heartbeat; None for anything else, which is no sign of life."""
    try:
        told = json.loads(line)
        queues = told.get("queues")
        return Heartbeat(
            str(told["node"]),
            str(told["state"]),
            now - float(told["at"]),
            None if queues is None else frozenset(map(str, queues)),
            told,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def judge(
    heartbeats: Sequence[Heartbeat], max_age: float, *, what: str, works: frozenset[str], cut_off: str
) -> Finding:
    """The verdict over all heartbeats of a kind.

    ``works``: the states that mean work is done; ``cut_off``: the state of one whose server is away.
    """
    data = {"heartbeats": [{"node": h.node, "state": h.state, "age": round(h.age, 1)} for h in heartbeats]}
    if not heartbeats:
        return finding("unknown", f"no {what} has given a sign of life in the last 10 minutes", **data)
    fresh = [h for h in heartbeats if h.is_fresh(max_age)]
    silent = [h.node for h in heartbeats if not h.is_fresh(max_age)]
    if not fresh:
        youngest = min(abs(h.age) for h in heartbeats)
        said = f"no sign of life within {max_age:g} s, the nearest is {youngest:.0f} s away: {_list(silent)}"
        return finding("unhealthy", said, **data)
    working = [h for h in fresh if h.state in works]
    if not working:
        states = ", ".join(sorted({h.state for h in fresh}))
        status: Status = "unhealthy" if all(h.state == cut_off for h in fresh) else "degraded"
        return finding(status, f"alive, but {states}: {_list([h.node for h in fresh])}", **data)
    others = [f"{h.node} is {h.state}" for h in fresh if h.state == cut_off]
    others += [f"{node} is silent" for node in silent]
    others += [f"{h.node} waits: {trouble}" for h in working for trouble in h.troubles]
    if others:
        return finding("degraded", f"{len(working)} of {len(heartbeats)} work; {_list(others)}", **data)
    return finding("healthy", f"{len(working)} alive: {_list([h.node for h in working])}", **data)


def judge_file(heartbeat: Heartbeat | None, path: Path, max_age: float) -> Finding:
    """The verdict over one process by its own file: whether its loop turns, and no more.

    A broker that is away makes it degraded, not unhealthy: a restart would not bring the broker back.
    """
    if heartbeat is None:
        return finding("unknown", f"there is no heartbeat in {path}")
    data = {"node": heartbeat.node, "state": heartbeat.state, "age": round(heartbeat.age, 1)}
    said = f"{heartbeat.node} is {heartbeat.state}, last heartbeat {heartbeat.age:.0f} s ago"
    if not heartbeat.is_fresh(max_age):
        return finding("unhealthy", f"{said}, more than {max_age:g} s", **data)
    return finding("degraded" if heartbeat.state in _CUT_OFF else "healthy", said, **data)


_CUT_OFF = frozenset({"broker_away", "redis_away"})


def _list(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

"""Where a drain is told to everybody: while it lasts, and its outcome afterwards, in Redis.

``regrow:{drain}:now`` is a hash of those under way, by process; ``regrow:{drain}:ended`` the last hundred
that ended, newest first. Best effort: a process that stops does not wait for a Redis that is away.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from regrow.configuration import configured
from regrow.log_events import EventLog
from regrow.tallies import tallies

if TYPE_CHECKING:
    import redis

log = EventLog("regrow.drain")

NOW = "regrow:{drain}:now"
ENDED = "regrow:{drain}:ended"
KEPT = 100
FORGOTTEN_AFTER = 60.0
"""Seconds beyond its limit after which a drain that never told its end was killed."""
_PATIENCE = 2.0


@dataclass(frozen=True)
class Course:
    """One drain. ``since`` and ``ended`` in epoch seconds; ``in_hand`` at the last word."""

    process: str
    host: str
    pid: int
    reason: str
    since: float
    limit: float
    in_hand_at_start: int
    in_hand: int
    ended: float | None = None
    timed_out: bool = False

    @property
    def key(self) -> str:
        return f"{self.process}@{self.host}:{self.pid}"

    def over(self, *, in_hand: int, at: float) -> Course:
        return replace(self, in_hand=in_hand, ended=at, timed_out=in_hand > 0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def keep(client: redis.Redis, course: Course) -> None:
    """Tell of a drain under way, or of its end."""
    line = json.dumps(course.as_dict())
    with client.pipeline(transaction=True) as pipe:
        if course.ended is None:
            pipe.hset(NOW, course.key, line)
        else:
            pipe.hdel(NOW, course.key)
            pipe.lpush(ENDED, line)
            pipe.ltrim(ENDED, 0, KEPT - 1)
        pipe.execute()


def read(client: redis.Redis, now: float) -> tuple[list[Course], list[Course]]:
    """Drains under way, and those that ended, newest first. Those that were killed are told as timed out."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hgetall(NOW)
        pipe.lrange(ENDED, 0, KEPT - 1)
        under_way, over = pipe.execute()
    going = [course for line in under_way.values() if (course := _parse(line))]
    killed = [course for course in going if now > course.since + course.limit + FORGOTTEN_AFTER]
    for course in killed:
        if client.hdel(NOW, course.key):  # whoever gets it out tells its end, once
            keep(client, replace(course, ended=course.since + course.limit, timed_out=True))
    ended = [course for line in over if (course := _parse(line))]
    gone = [replace(course, ended=course.since + course.limit, timed_out=True) for course in killed]
    return [course for course in going if course not in killed], [*gone, *ended]


def keep_soon(course: Course) -> None:
    """Tell of it without waiting."""
    threading.Thread(target=_keep, args=(course,), name="regrow-drain-record", daemon=True).start()


def keep_now(course: Course) -> None:
    """Tell of its end, and count it; waits four seconds at most."""
    tallies.count(
        "drains_total", process=course.process, outcome="timed_out" if course.timed_out else "finished"
    )
    thread = threading.Thread(target=_keep, args=(course,), name="regrow-drain-record", daemon=True)
    thread.start()
    thread.join(2 * _PATIENCE)


def _keep(course: Course) -> None:
    url = configured().redis_url
    if url is None:
        return
    from regrow.redis import connect

    try:
        with connect(url, socket_timeout=_PATIENCE, connect_timeout=_PATIENCE, max_connections=1) as client:
            keep(client, course)
    except Exception as error:
        log.warning("drain.not_recorded", error=str(error), age=round(time.time() - course.since, 1))


def _parse(line: str) -> Course | None:
    try:
        return Course(**json.loads(line))
    except (ValueError, TypeError):
        return None

"""Whether a child is up, asked from outside. Each probe returns None when it is, else what is amiss.

"Up" is about our own processes: that this host's disk is nearly full is for the page to say, not for us.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable

import psutil
import redis

from regrow.engine import Engine
from regrow.health import service as health
from regrow.health.checks import heartbeats
from worker.stack.ports import LOOPBACK
from worker.stack.processes import Process

Probe = Callable[[Process], str | None]

_UP = {"running", "standby"}
_TIMEOUT = 2.0


def valkey(client: redis.Redis) -> Probe:
    """Up when it answers PING; while it still reads its data, it says so."""

    def probe(_process: Process) -> str | None:
        try:
            client.ping()
        except redis.RedisError as error:
            return str(error) or type(error).__name__
        return None

    return probe


def page(port: int) -> Probe:
    """Up when ``/health/live`` answers 200."""

    def probe(_process: Process) -> str | None:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT)
        try:
            connection.request("GET", "/health/live")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"no answer from /health/live ({error})"
        finally:
            connection.close()
        return None if status == http.HTTPStatus.OK else f"/health/live answers {status}"

    return probe


def not_known(engine: Engine) -> list[str]:
    """The checks that nobody has a fresh result of: a page that opens now would show them as unknown."""
    return [check.name for check in health.overview(engine).checks if check.status == "unknown"]


def heartbeat(client: redis.Redis, kind: str) -> Probe:
    """Up when this very process, ``worker`` or ``beat``, has left a heartbeat in Redis since its start.

    The one of a process before it, which lies there for ten minutes, does not count.
    """

    def probe(process: Process) -> str | None:
        try:
            beats = heartbeats.kept(client, kind)
        except redis.RedisError as error:
            return f"Redis does not answer ({error})"
        for line in beats:
            if (state := _state(line, process)) is not None:
                return None if state in _UP else f"its state is {state}"
        return "no heartbeat yet"

    return probe


def _state(line: str, process: Process) -> str | None:
    """The state in a heartbeat of ``process``; None for one of another process."""
    try:
        beat = json.loads(line)
        at, pid, state = float(beat["at"]), int(beat["pid"]), str(beat["state"])
    except (ValueError, LookupError, TypeError):
        return None
    if at < process.started_at or not _is_or_descends_from(pid, process.pid):
        return None
    return state


def _is_or_descends_from(pid: int, ancestor: int) -> bool:
    """Where the tether stays (not on Linux), the child proper is one generation below."""
    if pid == ancestor:
        return True
    try:
        return any(parent.pid == ancestor for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False

"""A process tells Redis what its requests amount to: every few seconds, in the thread of the tallies.

It tells all of each minute that changed, under its own name and with a number that grows, so that a report
that is sent twice, or arrives late, counts once. While Redis is away the minutes wait, half an hour of them;
when Redis forgets, what is still held is told again. No request waits for any of this.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from regrow.configuration import configured
from regrow.redis_scripts import call, script
from regrow.requests.minutes import Part, to_wire
from regrow.tallies import tallies

if TYPE_CHECKING:
    from regrow.request_counts import RequestCounts

logger = logging.getLogger("regrow.requests")

ERA = "regrow:{requests}:era"
KEEP = 7200
"""Seconds that Redis keeps a minute for the job that folds it."""


def key_of(minute: int) -> str:
    return f"regrow:{{requests}}:{minute}"


class Telling:
    """The applications of one process, on their way to Redis."""

    def __init__(self) -> None:
        self._apps: weakref.WeakSet[RequestCounts] = weakref.WeakSet()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._riding = threading.Lock()
        self._source = ""
        self._sequence = 0
        self._era: str | None = None
        self._missed = False

    def add(self, app: RequestCounts) -> None:
        """Tell of this application too, for as long as somebody holds it; nothing without Redis."""
        if configured().redis_url is None:
            return
        with self._lock:
            self._apps.add(app)
        tallies.carry(self)

    @property
    def due(self) -> bool:
        minute = current_minute()
        return any(app.changed or app.newest < minute for app in self._known())

    def ride(self) -> None:
        """Tell what changed. While Redis is away it stays to be told; the first failure is logged."""
        with self._riding:
            apps = self._known()
            for app in apps:
                app.tell()
            minutes = sorted({minute for app in apps for minute in app.take_news(current_minute())})
            if not minutes:
                return
            try:
                era = self._told(apps, minutes)
            except (RedisError, OSError) as error:
                for app in apps:
                    app.again(minutes)
                if not self._missed:
                    logger.warning("requests.untold", extra={"minutes": len(minutes), "error": str(error)})
                self._missed = True
                return
            self._missed = False
            if self._era not in (None, era):
                for app in apps:
                    app.all_again()
            self._era = era

    def after_fork(self) -> None:
        """In a child: what was counted is the parent's to tell."""
        self._begin()
        for app in list(self._apps):
            app.after_fork()

    def _known(self) -> list[RequestCounts]:
        with self._lock:
            return list(self._apps)

    def _told(self, apps: list[RequestCounts], minutes: list[int]) -> str | None:
        """Send the minutes; the era of the server that has them now."""
        client = tallies.connected()
        if client is None:
            return self._era
        if not self._source:
            host = configured().reporter or socket.gethostname()
            self._source = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        self._sequence += 1
        counted = [
            to_wire(
                Part(app.app, route, count) for app in apps for route, count in app.of_minute(minute).items()
            )
            for minute in minutes
        ]
        keys = [ERA, *map(key_of, minutes)]
        arguments: list[str | int] = [self._source, self._sequence, KEEP, secrets.token_hex(8), *counted]
        era = call(client, script("regrow.requests", "report.lua"), keys, arguments)
        return str(era)


def current_minute() -> int:
    return int(time.time() // 60)


telling = Telling()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=telling.after_fork)

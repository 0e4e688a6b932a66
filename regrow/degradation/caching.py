"""A cache that goes on without Redis: the process's own memory stands in for it while it is away."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.exceptions import RedisError

from regrow.log_events import EventLog
from regrow.tallies import tallies

log = EventLog("regrow.degradation")

T = TypeVar("T")


class StandInCache:
    """``get``, ``set`` and ``delete`` on a Redis; in memory while that does not answer, which raises nothing.

    What was read or written within the last ``keep`` seconds is answered from memory, if it is among the last
    ``entries`` keys. Each process has a memory of its own. After an error Redis is left alone for ``pause``
    seconds, so that no caller waits for it again. What was written or deleted meanwhile is deleted in Redis
    before anything else is read there: a cache may forget, but it must not bring back what was taken out.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        keep: float = 300.0,
        entries: int = 10_000,
        pause: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._keep, self._entries, self._pause, self._clock = keep, entries, pause, clock
        self._memory: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self._stale: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._away = False

    def get(self, key: str) -> Any:
        """The value as redis-py returns it; None when there is none."""
        found, value = self._ask(lambda: self._client.get(key))
        if found:
            if value is not None:
                self._remember(key, value, self._keep)
            return value
        return self._recall(key)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Keep a value (bytes, text or a number), for ``ttl`` seconds if given."""
        self._remember(key, value, self._keep if ttl is None else min(ttl, self._keep))
        px = None if ttl is None else max(1, round(ttl * 1000))
        found, _ = self._ask(lambda: self._client.set(key, value, px=px))
        if not found:
            self._mark(key)

    def delete(self, key: str) -> None:
        """Forget a value."""
        with self._lock:
            self._memory.pop(key, None)
        found, _ = self._ask(lambda: self._client.delete(key))
        if not found:
            self._mark(key)

    @property
    def away(self) -> bool:
        """Whether Redis did not answer when it was asked last."""
        return self._away

    def _ask(self, question: Callable[[], T]) -> tuple[bool, T | None]:
        """Redis' answer, and whether there is one."""
        if self._clock() < self._away_until:
            tallies.count("fallback_usage_total", service="redis")
            return False, None
        try:
            if self._stale:
                self._make_up()
            answer = question()
        except (RedisError, OSError) as error:
            self._away_until = self._clock() + self._pause
            if not self._away:
                self._away = True
                log.warning("cache.redis_away", error=str(error))
            tallies.count("fallback_usage_total", service="redis")
            return False, None
        if self._away:
            self._away = False
            log.info("cache.redis_back")
        return True, answer

    def _make_up(self) -> None:
        """Take out of Redis what it does not know was changed."""
        with self._lock:
            keys = list(self._stale)
        for key in keys:
            self._client.delete(key)
        with self._lock:
            for key in keys:
                self._stale.pop(key, None)

    def _mark(self, key: str) -> None:
        with self._lock:
            self._stale[key] = None

    def _remember(self, key: str, value: Any, seconds: float) -> None:
        with self._lock:
            self._memory[key] = (value, self._clock() + seconds)
            self._memory.move_to_end(key)
            while len(self._memory) > self._entries:
                self._memory.popitem(last=False)

    def _recall(self, key: str) -> Any:
        with self._lock:
            value, until = self._memory.get(key, (None, 0.0))
            if self._clock() < until:
                return value
            self._memory.pop(key, None)
            return None

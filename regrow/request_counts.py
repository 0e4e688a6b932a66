"""What the fleet's metrics and the services' figures tell of requests: how many, how answered, how long.

A request adds to a few numbers under a lock; the thread of the tallies hands these on to Redis.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from bisect import bisect_left
from collections import Counter
from dataclasses import replace

from regrow.latency_buckets import bucket_of
from regrow.requests.minutes import Count, Minutes
from regrow.requests.telling import current_minute, telling
from regrow.tallies import tallies

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, math.inf)
"""Upper ends of the histogram of durations, in seconds."""
TELL_EVERY = 1.0

REFUSED = "refused"
LOST = "none"
"""In place of a status: the request ended without an answer."""


class RequestCounts:
    """The requests of one application in this process."""

    def __init__(self, app: str) -> None:
        self.app = app
        self._lock = threading.Lock()
        self._begin()
        self._told_at = -math.inf  # the first request of all is told at once, as the last one may be
        self._minutes = Minutes()
        atexit.register(_tell, weakref.ref(self))

    def _begin(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._buckets: Counter[float] = Counter()
        self._microseconds = 0
        self._told_at = time.monotonic()

    def ended(self, status: int, seconds: float, *, failed: bool = False, route: str = "") -> None:
        """A request that was let in; ``status`` 0: it was not answered. ``route``: one of a few names."""
        with self._lock:
            self._statuses[f"{status // 100}xx" if status else LOST] += 1
            self._buckets[BUCKETS[bisect_left(BUCKETS, seconds)]] += 1
            self._microseconds += round(seconds * 1e6)
            self._minutes.add(current_minute(), route, failed=failed, bucket=bucket_of(seconds))
            due = time.monotonic() - self._told_at > TELL_EVERY
        if due:
            self.tell()

    def refused(self, *, failed: bool, route: str = "") -> None:
        """A request that was answered in place of the application, by a breaker, the level or the load."""
        with self._lock:
            self._minutes.add(current_minute(), route, failed=failed, bucket=None)
            due = time.monotonic() - self._told_at > TELL_EVERY
        if due:
            self.tell()

    def turned_away(self) -> None:
        """A request that came while draining."""
        with self._lock:
            self._statuses[REFUSED] += 1

    def tell(self) -> None:
        """Hand on what was counted since the last time."""
        with self._lock:
            statuses, buckets, microseconds = self._statuses, self._buckets, self._microseconds
            self._begin()
        for status, number in statuses.items():
            if status == REFUSED:
                tallies.count("http_requests_refused_total", number, app=self.app)
            else:
                tallies.count("http_requests_total", number, app=self.app, status=status)
        for end, number in buckets.items():
            tallies.count("http_request_duration_seconds_bucket", number, app=self.app, le=str(end))
        tallies.count("http_request_duration_microseconds", microseconds, app=self.app)
        if self._minutes.used:
            telling.add(self)

    # For whoever tells of the minutes -----------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether a minute is to be told."""
        return self._minutes.changed

    @property
    def newest(self) -> int:
        """The newest minute that something is known of; 0: none."""
        with self._lock:
            return self._minutes.newest

    def take_news(self, now: int) -> set[int]:
        """The minutes that changed since the last time; the minute ``now`` is counted, whatever came."""
        with self._lock:
            self._minutes.live(now)
            return self._minutes.take_news()

    def again(self, minutes: list[int]) -> None:
        """These could not be told."""
        with self._lock:
            self._minutes.again(minutes)

    def all_again(self) -> None:
        """What was told was forgotten."""
        with self._lock:
            self._minutes.all_again()

    def of_minute(self, minute: int) -> dict[str, Count]:
        """The counts of a minute by route, of this moment."""
        with self._lock:
            routes = self._minutes.of(minute).items()
            return {route: replace(count, buckets=dict(count.buckets)) for route, count in routes}

    def after_fork(self) -> None:
        """In a child: what was counted is the parent's."""
        self._lock = threading.Lock()
        self._begin()
        self._told_at = -math.inf
        self._minutes = Minutes()


def _tell(this: weakref.ref[RequestCounts]) -> None:
    if (counts := this()) is not None:
        counts.tell()

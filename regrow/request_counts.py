"""What the fleet's metrics tell of requests: how many, how they were answered, how long they took.

A request adds to a few numbers under a lock; once a second somebody hands these on to the tallies.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from bisect import bisect_left
from collections import Counter

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
        atexit.register(_tell, weakref.ref(self))

    def _begin(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._buckets: Counter[float] = Counter()
        self._microseconds = 0
        self._told_at = time.monotonic()

    def ended(self, status: int, seconds: float) -> None:
        """A request that was let in; ``status`` 0: it was not answered."""
        with self._lock:
            self._statuses[f"{status // 100}xx" if status else LOST] += 1
            self._buckets[BUCKETS[bisect_left(BUCKETS, seconds)]] += 1
            self._microseconds += round(seconds * 1e6)
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


def _tell(this: weakref.ref[RequestCounts]) -> None:
    if (counts := this()) is not None:
        counts.tell()

"""What the requests of one minute amount to, in a process and on the wire. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from regrow.latency_buckets import from_text, to_text

HELD = 30
"""Minutes that a process remembers: while Redis is away, or if it forgets."""
LONGEST_NAME = 190


@dataclass(slots=True)
class Count:
    """Requests of one route. ``buckets``: how long those took that the application was asked."""

    count: int = 0
    failed: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, other: Count) -> None:
        self.count += other.count
        self.failed += other.failed
        for bucket, number in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + number


class Minutes:
    """The requests of one application in one process, by minute (since 1970) and route. Not locked."""

    def __init__(self) -> None:
        self._minutes: dict[int, dict[str, Count]] = {}
        self._news: set[int] = set()
        self.used = False

    def add(self, minute: int, route: str, *, failed: bool, bucket: int | None) -> None:
        """One request. ``bucket`` None: the application was not asked."""
        self.used = True
        routes = self._minutes.get(minute) or self._new(minute)
        count = routes.get(route)
        if count is None:
            count = routes[route] = Count()
        count.count += 1
        count.failed += failed
        if bucket is not None:
            count.buckets[bucket] = count.buckets.get(bucket, 0) + 1
        self._news.add(minute)

    def live(self, minute: int) -> None:
        """Somebody counts in this minute, though nothing may come: no requests are something else than
        nobody to count them."""
        if self.used and minute not in self._minutes:
            self._new(minute)
            self._news.add(minute)

    def take_news(self) -> set[int]:
        """The minutes that changed since the last time."""
        news, self._news = self._news, set()
        return news

    def again(self, minutes: Iterable[int]) -> None:
        """These are to be told once more."""
        self._news.update(minute for minute in minutes if minute in self._minutes)

    def all_again(self) -> None:
        self._news.update(self._minutes)

    def of(self, minute: int) -> Mapping[str, Count]:
        return self._minutes.get(minute, {})

    @property
    def newest(self) -> int:
        return max(self._minutes, default=0)

    @property
    def changed(self) -> bool:
        return bool(self._news)

    def _new(self, minute: int) -> dict[str, Count]:
        routes = self._minutes[minute] = {"": Count()}
        while len(self._minutes) > HELD:
            oldest = min(self._minutes)
            del self._minutes[oldest]
            self._news.discard(oldest)
        return routes


@dataclass(frozen=True, slots=True)
class Part:
    """What one process counted of one service and route in one minute."""

    service: str
    route: str
    count: Count


def to_wire(parts: Iterable[Part]) -> str:
    rows = [
        [part.service, part.route, part.count.count, part.count.failed, to_text(part.count.buckets)]
        for part in parts
    ]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False)


def from_wire(text: str) -> list[Part]:
    """What :func:`to_wire` wrote; ValueError for anything else."""
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError("these are no counts of requests: no list")  # noqa: TRY004 - of a text, not a caller
    try:
        return [_part(*row) for row in rows]
    except (TypeError, AttributeError) as error:
        raise ValueError(f"these are no counts of requests: {error}") from None


def _part(service: str, route: str, count: int, failed: int, buckets: str) -> Part:
    found = Count(int(count), int(failed), from_text(buckets))
    timed = sum(found.buckets.values())
    if not 0 <= found.failed <= found.count or timed > found.count:
        raise ValueError(f"{failed} failed and {timed} timed of {count}")
    return Part(service[:LONGEST_NAME], route[:LONGEST_NAME], found)

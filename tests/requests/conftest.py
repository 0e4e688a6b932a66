"""Processes that tell of requests, and a clock that tells which minute it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

import regrow.configuration
from regrow.configuration import Configuration
from regrow.latency_buckets import bucket_of
from regrow.redis_scripts import call, script
from regrow.requests import telling
from regrow.requests.minutes import Count, Part, to_wire
from regrow.requests.telling import ERA, KEEP, key_of

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def minute_of(at: datetime) -> int:
    return int(at.timestamp() // 60)


def told(redis, source, sequence, at, service="shop", route="", *, count=0, failed=0, seconds=0.1):
    """What a process tells of one minute, all of it."""
    buckets = {bucket_of(seconds): count} if count else {}
    text = to_wire([Part(service, route, Count(count, failed, buckets))])
    keys = [ERA, key_of(minute_of(at))]
    return call(redis, script("regrow.requests", "report.lua"), keys, [source, sequence, KEEP, "era", text])


@pytest.fixture
def told_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Which Redis this process was told of."""

    def tell(url: str | None) -> None:
        monkeypatch.setattr(regrow.configuration, "_told", Configuration(redis_url=url))

    return tell


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch):
    """The minute that counting believes in; ``minute.at`` moves it."""

    class Minute:
        at = NOON

        def on(self, minutes: int) -> None:
            self.at += timedelta(minutes=minutes)

    now = Minute()
    for module in ("regrow.request_counts", "regrow.requests.telling"):
        monkeypatch.setattr(f"{module}.current_minute", lambda: minute_of(now.at))
    assert telling.current_minute() == minute_of(NOON)
    return now

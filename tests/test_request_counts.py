"""Requests that a middleware saw, on their way to the metrics."""

from __future__ import annotations

import pytest

from regrow import counters
from regrow.engine import Engine
from regrow.request_counts import RequestCounts
from regrow.tallies import tallies


def test_what_was_counted_arrives_once_by_class_of_status(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REGROW_REDIS_URL", engine.settings.redis.url.get_secret_value())
    counts = RequestCounts("shop")
    for status, seconds in ((200, 0.004), (204, 0.3), (503, 0.3), (0, 1.0)):
        counts.ended(status, seconds)
    counts.turned_away()
    for _ in range(2):
        counts.tell()
        tallies.flush()
    found = counters.read(engine)
    ours = {dict(labels)["status"]: number for labels, number in _of_shop(found, "http_requests_total")}
    assert ours == {"2xx": 2, "5xx": 1, "none": 1}
    assert _of_shop(found, "http_requests_refused_total") == [((("app", "shop"),), 1)]
    ends = {
        dict(labels)["le"]: number
        for labels, number in _of_shop(found, "http_request_duration_seconds_bucket")
    }
    assert ends == {"0.005": 1, "0.5": 2, "1.0": 1}
    assert _of_shop(found, "http_request_duration_microseconds") == [((("app", "shop"),), 1_604_000)]


def _of_shop(found, name):
    """What this test counted: applications of other tests may still be there and tell of theirs."""
    return [(labels, number) for labels, number in found[name].items() if ("app", "shop") in labels]

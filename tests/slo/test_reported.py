"""Promises about requests, judged by what the table of requests holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regrow.latency_buckets import bucket_of
from regrow.requests import store
from regrow.requests.store import MINUTE, Rollup
from regrow.slo.reported import ReportedMinutes
from regrow.slo.requests import error_rate, latency

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def test_the_routes_of_a_service_are_one_minute_and_another_service_is_none(engine):
    def row(minute, service, route, count, failed, seconds):
        at = NOON + timedelta(minutes=minute)
        return Rollup(MINUTE, at, service, route, count, failed, 1, {bucket_of(seconds): count})

    rows = [row(minute, "shop", "", 90, 0, 0.1) for minute in range(60)]
    rows += [row(minute, "shop", "bank", 10, 1, 2.0) for minute in range(60)]
    store.write(engine.database, [*rows, row(0, "other", "", 5, 5, 9.0), row(60, "shop", "", 5, 5, 9.0)])
    end = NOON + timedelta(hours=1)
    minutes = ReportedMinutes(engine.database).minutes("shop", NOON, end)
    assert len(minutes) == 60
    rate = error_rate(minutes, NOON, end, 0.995)
    assert (rate.value, rate.met, rate.coverage) == (0.01, False, 1.0)
    slow = latency(minutes, NOON, end, 0.95, 0.5)
    assert (slow.value, slow.met) == (pytest.approx(2.0, rel=0.02), False)

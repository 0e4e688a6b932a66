"""Windows over kept requests: what is not known is missing, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from regrow.latency_buckets import bucket_of
from regrow.requests import reading, store
from regrow.requests.store import MINUTE, Rollup
from tests.requests.conftest import NOON


def at(minute: int, *, count=0, failed=0, seconds=0.1, service="shop", route="") -> Rollup:
    buckets = {bucket_of(seconds): count} if count else {}
    return Rollup(MINUTE, NOON + timedelta(minutes=minute), service, route, count, failed, 1, buckets)


@pytest.fixture
def read(engine):
    def window(rows, minutes=60, **options):
        store.write(engine.database, rows)
        return reading.window(engine.database, "shop", NOON, NOON + timedelta(minutes=minutes), **options)

    return window


def test_a_window_adds_up_counts_and_merges_durations(read):
    found = read([at(0, count=98, seconds=0.1), at(1, count=2, failed=1, seconds=3.0)])
    assert (found.count, found.failed, found.failure_rate) == (100, 1, 0.01)
    assert found.percentile(0.95) == pytest.approx(0.1, rel=0.02)
    assert found.percentile(0.99) == pytest.approx(3.0, rel=0.02)
    assert found.per_second == 100 / 120, "over the two minutes that are known"
    assert (found.heard, found.minutes, found.coverage) == (2, 60, 2 / 60)


def test_nothing_told_is_unknown_and_no_requests_are_none(read):
    found = read([])
    assert (found.failure_rate, found.per_second, found.percentile(0.5), found.coverage) == (
        None,
        None,
        None,
        0,
    )
    idle = read([at(minute) for minute in range(60)])
    assert (idle.failure_rate, idle.per_second, idle.coverage) == (None, 0.0, 1.0)


def test_the_window_is_half_open_and_of_whole_minutes(engine):
    store.write(engine.database, [at(minute, count=1) for minute in range(-2, 4)])
    late = timedelta(seconds=59)
    found = reading.window(engine.database, "shop", NOON + late, NOON + timedelta(minutes=2) + late)
    assert (found.since, found.count, found.minutes) == (NOON, 2, 2)


def test_a_route_is_a_part_of_its_service_and_as_well_known(read):
    rows = [at(0, count=5), at(0, count=3, failed=3, route="bank"), at(1, count=1)]
    whole, bank = read(rows), read([], route="bank")
    assert (whole.count, whole.failed, whole.heard) == (9, 3, 2)
    assert (bank.count, bank.failed, bank.heard) == (3, 3, 2)


def test_peak_hours_are_those_with_the_most_requests_a_second_that_was_heard(read):
    rows = [
        *(at(minute, count=60) for minute in range(60)),
        *(at(minute, count=600) for minute in range(60, 90)),  # then nobody told for half an hour
        *(at(minute, count=6) for minute in range(120, 180)),
    ]
    found = read(rows, minutes=180)
    assert [(hour.starts_at.hour, hour.per_second) for hour in found.busiest(2)] == [(13, 10.0), (12, 1.0)]
    assert [hour.heard for hour in found.hours] == [60, 30, 60]


def test_lately_ends_where_everything_is_told(engine):
    store.write(engine.database, [at(minute, count=1) for minute in range(-10, 0)])
    store.write(engine.database, [at(-3, count=4, failed=2, service="bank")])
    now = NOON + timedelta(seconds=70)
    found = reading.lately(engine.database, now, timedelta(minutes=5))
    assert {service: (one.count, one.heard) for service, one in found.items()} == {
        "shop": (5, 5),
        "bank": (4, 1),
    }
    assert reading.services(engine.database, NOON - timedelta(hours=1)) == ["bank", "shop"]

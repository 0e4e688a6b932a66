"""From what processes told to rows: each minute and hour once, whoever folds, and however often."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis
import sqlalchemy as sa

from regrow.database.tables import request_rollups
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.requests import folding, reading, store
from regrow.requests.store import HOUR, MINUTE, Rollup
from regrow.requests.telling import key_of
from tests.requests.conftest import NOON, minute_of, told


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def at(engine: Engine, when) -> Engine:
    engine.clock = lambda: when
    return engine


def kept(engine: Engine, seconds: int = MINUTE) -> dict[tuple[str, str, str], tuple[int, int, int]]:
    """(minute or hour, service, route) -> (count, failed, minutes heard)."""
    found = store.read(engine.database, seconds, NOON - timedelta(days=2), NOON + timedelta(days=2))
    return {
        (f"{one.starts_at:%H:%M}", one.service, one.route): (one.count, one.failed, one.heard)
        for one in found
    }


def test_processes_are_added_up_when_the_minute_is_over_and_folding_again_changes_nothing(engine):
    for source, count in (("one", 5), ("two", 7)):
        told(engine.redis, source, 1, NOON, count=count, failed=1)
    told(engine.redis, "three", 1, NOON, "shop", "bank", count=2)
    assert folding.fold(at(engine, NOON + minutes(1)))["rows"] == 0, "somebody may still tell of it"
    found = folding.fold(at(engine, NOON + minutes(1.5)))
    assert (found["minutes"], found["services"], found["rows"]) == (1, 1, 2)
    assert kept(engine) == {("12:00", "shop", ""): (12, 2, 1), ("12:00", "shop", "bank"): (2, 0, 1)}
    assert folding.fold(engine)["minutes"] == 0


def test_what_comes_late_amends_the_minute_and_its_hour(each_engine):
    told(each_engine.redis, "one", 1, NOON, count=5)
    folding.fold(at(each_engine, NOON + minutes(62)))
    assert kept(each_engine, HOUR) == {("12:00", "shop", ""): (5, 0, 1)}
    told(each_engine.redis, "cut off", 1, NOON, count=4, failed=4)
    told(each_engine.redis, "cut off", 1, NOON + minutes(1), count=1)
    folding.fold(at(each_engine, NOON + minutes(63)))
    assert kept(each_engine)["12:00", "shop", ""] == (9, 4, 1)
    assert kept(each_engine, HOUR) == {("12:00", "shop", ""): (10, 4, 2)}


def test_a_redis_that_forgot_does_not_take_away_what_is_kept(engine):
    told(engine.redis, "one", 1, NOON, count=50, failed=2)
    folding.fold(at(engine, NOON + minutes(2)))
    engine.redis.flushdb()
    told(engine.redis, "two", 1, NOON, count=3)
    folding.fold(engine)
    assert kept(engine) == {("12:00", "shop", ""): (50, 2, 1)}


def test_a_minute_that_nobody_told_of_has_no_row_and_one_without_requests_has(engine):
    told(engine.redis, "one", 1, NOON, count=5)
    told(engine.redis, "one", 2, NOON + minutes(2))
    folding.fold(at(engine, NOON + minutes(4)))
    assert kept(engine) == {("12:00", "shop", ""): (5, 0, 1), ("12:02", "shop", ""): (0, 0, 1)}


def test_a_fold_that_died_before_its_mark_is_done_again_without_harm(engine, monkeypatch):
    told(engine.redis, "one", 1, NOON, count=5)

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folding, "_hour_again", dies)
        with pytest.raises(KeyboardInterrupt):
            folding.fold(at(engine, NOON + minutes(2)))
    assert kept(engine) == {("12:00", "shop", ""): (5, 0, 1)}
    assert folding.fold(engine)["minutes"] == 1
    assert kept(engine) == {("12:00", "shop", ""): (5, 0, 1)}


def test_of_two_workers_the_one_that_read_less_does_not_win(each_engine):
    more, less = (Rollup(MINUTE, NOON, "shop", "", count, 0, 1, {0: count}) for count in (9, 4))
    assert [store.write(each_engine.database, [one]) for one in (more, less, more)] == [1, 0, 0]
    assert kept(each_engine) == {("12:00", "shop", ""): (9, 0, 1)}


def test_hours_that_were_missed_are_made_up_for_when_they_are_over(engine):
    for hour in (-26, -25, -3):
        for step in range(3):
            row = Rollup(MINUTE, NOON + minutes(60 * hour + step), "shop", "", 10, 1, 1, {0: 10})
            store.write(engine.database, [row])
    found = folding.fold(at(engine, NOON + minutes(1)))
    assert found["hours"] == 3
    assert kept(engine, HOUR) == {(hour, "shop", ""): (30, 3, 3) for hour in ("10:00", "11:00", "09:00")}
    assert folding.fold(engine)["hours"] == 0


def test_an_hour_knows_how_many_minutes_of_its_service_were_heard_whatever_the_route(engine):
    rows = [
        Rollup(MINUTE, NOON, "shop", "", 1, 0),
        Rollup(MINUTE, NOON + minutes(1), "shop", "", 0, 0),
        Rollup(MINUTE, NOON + minutes(1), "shop", "bank", 3, 3),
    ]
    assert {one.route: (one.count, one.heard) for one in folding.hour_of(NOON, rows)} == {
        "": (1, 2),
        "bank": (3, 2),
    }


def test_a_report_that_nobody_can_read_is_told_and_holds_up_no_other(engine):
    told(engine.redis, "one", 1, NOON, count=5)
    engine.redis.hset(key_of(minute_of(NOON)), "foreign", "1 nonsense")
    found = folding.fold(at(engine, NOON + minutes(2)))
    assert (found["unreadable"], found["rows"]) == (1, 1)


def test_without_redis_the_next_run_does_it(engine, monkeypatch):
    def away(*_, **__):
        raise redis.ConnectionError("refused")

    monkeypatch.setattr(folding, "_with_news", away)
    with pytest.raises(StoreUnavailableError, match="refused"):
        folding.fold(engine)


def test_minutes_and_hours_go_when_they_are_older_than_they_are_kept(each_engine):
    at(each_engine, NOON)
    ages = {MINUTE: (6, 8), HOUR: (399, 401)}
    rows = [
        Rollup(seconds, NOON - timedelta(days=days), "shop", "", 1, 0)
        for seconds, both in ages.items()
        for days in both
    ]
    store.write(each_engine.database, rows)
    assert store.prune(each_engine) == 2
    with each_engine.database.snapshot() as connection:
        left = connection.execute(sa.select(request_rollups.c.seconds, request_rollups.c.starts_at)).all()
    assert {(seconds, (NOON - at).days) for seconds, at in left} == {(MINUTE, 6), (HOUR, 399)}


def test_a_whole_day_reads_the_same_by_hours_and_by_minutes(engine):
    rows = [
        Rollup(
            MINUTE,
            NOON + minutes(step),
            "shop",
            route,
            step % 7,
            step % 2 and step % 7,
            1,
            {step % 40: step % 7},
        )
        for step in range(0, 26 * 60, 3)
        for route in ("", "bank")
    ]
    store.write(engine.database, rows)
    begins, ends = NOON + minutes(25), NOON + minutes(25 * 60 + 11)
    before = reading.window(engine.database, "shop", begins, ends)
    folding.fold(at(engine, NOON + minutes(24 * 60 + 30)))
    after = reading.window(engine.database, "shop", begins, ends)
    assert len(store.read(engine.database, HOUR, begins, ends)) == 23 * 2, "hours, each of two routes"
    assert after == before
    assert before.count == sum(one.count for one in rows if begins <= one.starts_at < ends)

"""What the counts in Redis grew by, each increment in its minute and hour once, and what nobody saw unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regrow import counted
from regrow.counted import Counted
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.tallies import KEY, field_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def look(engine: Engine, minute: float) -> int:
    engine.clock = lambda: NOON + timedelta(minutes=minute)
    return counted.fold(engine)


def grow(engine: Engine, by: int, function: str = "pay", name: str = "retry_attempts_total") -> None:
    engine.redis.hincrby(KEY, field_of(name, {counted.NAMES[name]: function}), by)


def of(engine: Engine, first: float, last: float) -> Counted:
    return counted.window(engine.database, NOON + timedelta(minutes=first), NOON + timedelta(minutes=last))


def test_what_grew_between_two_looks_is_of_the_time_between_them(each_engine: Engine) -> None:
    engine = each_engine
    grow(engine, 1000)
    assert look(engine, -0.5) == 0, "what was counted before the first look is of no known time"
    for half in range(121):
        grow(engine, 2)
        grow(engine, 1, "mail", "fallback_usage_total") if half == 60 else None
        assert look(engine, half / 2) == 2 + (half == 60)
    assert look(engine, 60) == 0, "the same look again"
    assert of(engine, 0, 60) == Counted(
        1.0, {"retry_attempts_total": {"pay": 240}, "fallback_usage_total": {"mail": 1}}
    )
    assert of(engine, 30, 31).amounts["retry_attempts_total"] == {"pay": 4}
    assert of(engine, -60, 0) == Counted(30 / 3600, {"retry_attempts_total": {"pay": 2}}), (
        "nothing was told of fallbacks"
    )
    assert of(engine, 40, 50).amounts["fallback_usage_total"] == {}, "they were told of before: none"


def test_a_redis_that_forgot_began_anew(engine: Engine) -> None:
    look(engine, 0)
    grow(engine, 50)
    look(engine, 0.5)
    engine.redis.delete(KEY)
    grow(engine, 3)
    assert look(engine, 1) == 3
    engine.redis.delete(KEY)
    look(engine, 1.5)
    grow(engine, 9)
    assert look(engine, 2) == 9
    assert of(engine, 0, 2) == Counted(1.0, {"retry_attempts_total": {"pay": 62}})


def test_what_came_while_nobody_looked_is_unknown(engine: Engine) -> None:
    look(engine, 0)
    grow(engine, 5)
    look(engine, 1)
    grow(engine, 70)
    look(engine, 31)
    grow(engine, 1)
    look(engine, 32)
    assert of(engine, 0, 60) == Counted(120 / 3600, {"retry_attempts_total": {"pay": 6}})
    assert of(engine, 2, 30).coverage == 0


def test_a_redis_that_is_away_costs_nothing_but_the_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regrow import counters

    look(engine, 0)
    grow(engine, 5)

    def away(_engine: Engine) -> None:
        raise counters.redis.ConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(counters, "read", away)
        with pytest.raises(StoreUnavailableError, match="Redis"):
            look(engine, 0.5)
    assert look(engine, 1) == 5
    assert of(engine, 0, 1).coverage == 1


def test_minutes_and_hours_are_kept_as_long_as_those_of_requests(engine: Engine) -> None:
    look(engine, 0)
    grow(engine, 5)
    look(engine, 0.5)
    engine.clock = lambda: NOON + timedelta(days=8)
    assert counted.prune(engine) == 2
    assert counted.window(engine.database, NOON, NOON + HOUR).amounts == {"retry_attempts_total": {"pay": 5}}
    engine.clock = lambda: NOON + timedelta(days=401)
    assert counted.prune(engine) == 2

"""Trends out of kept history, as command line, page and alerts see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from regrow.capacity import service
from regrow.database.tables import breaker_transitions, capture_events, check_results
from regrow.engine import Engine, set_engine
from regrow.jobs import recent, record
from regrow.tallies import KEY, field_of

NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)


@pytest.fixture
def at_noon(each_engine: Engine) -> Engine:
    each_engine.clock = lambda: NOW
    return each_engine


def insert(engine: Engine, table: sa.Table, rows: list[dict]) -> None:
    engine.database.run(lambda connection: connection.execute(sa.insert(table), rows))


def results(engine: Engine, check: str, every: timedelta, number: int, found) -> None:
    """``found(n)``: latency and data of the n-th of so many results until now."""
    rows = []
    for n in range(number):
        latency, data = found(n)
        rows.append(
            {
                "check_name": check,
                "at": NOW - (number - n) * every,
                "status": "healthy",
                "latency": latency,
                "interval": 60.0,
                "message": "",
                "data": data,
            }
        )
    insert(engine, check_results, rows)


def filling_disk(engine: Engine, per_day: float) -> None:
    step = timedelta(minutes=5)
    results(
        engine, "disk", step, 200, lambda n: (0.001, {"percent": 60 + per_day * n / 288, "inodes_percent": 5})
    )


def opened(engine: Engine, breaker: str, per_day) -> None:
    rows, epoch = [], 0
    for days in range(28):
        for n in range(per_day(days)):
            epoch += 1
            at = NOW.replace(hour=1) - timedelta(days=28 - days) + timedelta(minutes=n)
            row = {"breaker": breaker, "epoch": epoch, "from_state": "closed", "to_state": "open"}
            rows.append({**row, "reason": "failures", "actor": None, "at": at, "details": {}})
    insert(engine, breaker_transitions, rows)


def by_subject(engine: Engine) -> dict[tuple[str, str], service.Trend]:
    return {(one.kind, one.subject): one for one in service.trends(engine, NOW)}


def test_what_is_kept_tells_where_it_goes(at_noon):
    filling_disk(at_noon, per_day=24.0)
    results(at_noon, "redis", timedelta(minutes=30), 140, lambda n: (0.010 + 0.001 * n, {}))
    results(at_noon, "database", timedelta(minutes=30), 140, lambda n: (0.010 + 0.001 * (n % 3), {}))
    opened(at_noon, "bank", lambda day: day // 4)
    opened(at_noon, "mail", lambda day: 1 if day > 23 else 0)
    events = [
        {
            "event_id": f"{day}-{n}",
            "letter_id": "x",
            "source": "task",
            "received_at": NOW - timedelta(days=day),
        }
        for day in range(1, 28)
        for n in range(3 * (28 - day))
    ]
    insert(at_noon, capture_events, events)
    found = by_subject(at_noon)
    disk = found["disk", "disk"]
    assert (disk.direction, disk.per_day) == ("rising", pytest.approx(24.0, rel=0.05))
    assert disk.full_in == pytest.approx((100 - disk.now) / 24 * 86_400, rel=0.05)
    assert found["check_latency", "redis"].per_day == pytest.approx(0.048, rel=0.05)
    assert found["check_latency", "database"].direction in {"none", "unknown"}
    assert found["breaker_openings", "bank"].per_day == pytest.approx(0.25, rel=0.2)
    assert found["breaker_openings", "mail"].direction == "unknown", "known for five days only"
    assert found["letters", "all"].per_day == pytest.approx(3.0, rel=0.1)
    assert found["memory", "memory"].direction == "unknown", "nobody measured it"


def test_the_job_keeps_what_goes_anywhere_for_pages_and_alerts(engine, monkeypatch):
    from tasks.capacity import forecast_capacity

    engine.clock = lambda: NOW
    filling_disk(engine, per_day=24.0)
    monkeypatch.setattr("tasks.capacity.get_engine", lambda: engine)
    assert service.latest(engine, NOW) is None
    assert service.filling(engine, NOW) is None, "nobody looked: not known, and not nothing"
    forecast_capacity()
    (run,) = recent(engine, service.JOB)
    assert run.summary["looked_at"] > len(run.summary["trends"]) == 1
    (full,) = service.filling(engine, NOW + timedelta(minutes=5))
    assert (full.kind, full.subject) == ("disk", "disk")
    assert service.filling(engine, NOW, timedelta(hours=6)) == []
    assert service.filling(engine, NOW + timedelta(hours=2)) is None, "too long ago"


def test_fallbacks_have_a_history_of_what_the_job_saw_and_resets_are_no_fall(engine):
    count = 0
    for hour in range(60):
        count = 0 if hour == 20 else count + hour  # Redis forgot once
        engine.clock = lambda hour=hour: NOW - timedelta(hours=60 - hour)
        with record(engine, service.JOB) as run:
            run.summary = {"looked_at": 0, "trends": [], "left_out": False, "fallbacks": {"ai": count}}
    engine.clock = lambda: NOW
    found = by_subject(engine)["fallbacks", "ai"]
    assert (found.direction, found.per_day) == ("rising", pytest.approx(24.0, rel=0.05))


def test_the_counters_of_fallbacks_are_read_and_absent_ones_are_not_zero(engine, monkeypatch):
    engine.redis.hset(KEY, field_of("fallback_usage_total", {"service": "ai"}), 7)
    assert service.forecast(engine)["fallbacks"] == {"ai": 7}
    monkeypatch.setattr("regrow.capacity.service.counters.read", _away)
    assert service.forecast(engine)["fallbacks"] is None


def _away(_):
    import redis

    raise redis.ConnectionError("refused")


def test_the_command_line_tells_all_figures_and_when_it_is_full(engine, capsys):
    from regrow.cli.main import main

    engine.clock = lambda: NOW
    filling_disk(engine, per_day=24.0)
    set_engine(engine)
    try:
        assert main(["trends"]) == 0
        shown = capsys.readouterr().out
        assert main(["trends", "--json"]) == 0
        told = capsys.readouterr().out
    finally:
        set_engine(None)
    words = " ".join(shown.split())
    assert "76.6 % +24" in words
    assert "no trend" in words
    assert '"direction": "rising"' in told

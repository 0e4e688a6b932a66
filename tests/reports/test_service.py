"""Reports on real databases: made once, kept for good, amended in the open."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from regrow import counted
from regrow.database.tables import breaker_transitions, check_results, job_runs, reports
from regrow.dead_letters import service as dead_letters
from regrow.dead_letters.captured import of_message
from regrow.degradation import service as degradation
from regrow.engine import Engine, set_engine
from regrow.errors import ReportNotFoundError
from regrow.jobs import recent
from regrow.reports import service
from regrow.reports.store import digest_of
from regrow.tallies import KEY, field_of
from tests.degradation.conftest import checks

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ELEVEN = NOON - timedelta(hours=1)


class Clock:
    """A clock that the test sets."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(each_engine: Engine) -> Clock:
    clock = Clock(NOON + timedelta(minutes=7))
    each_engine.clock = clock
    return clock


def result(name: str, at: datetime, status: str = "healthy", **data: Any) -> dict[str, Any]:
    return {
        "check_name": name,
        "at": at,
        "status": status,
        "latency": 0.01,
        "interval": 60.0,
        "message": f"{name} is {status}",
        "data": data,
    }


def add_results(engine: Engine, *rows: dict[str, Any]) -> None:
    with engine.database.transaction() as connection:
        connection.execute(sa.insert(check_results), list(rows))


def an_hour_of(name: str, down: frozenset[int] = frozenset(), **data: Any) -> list[dict[str, Any]]:
    """A result a minute from a minute before eleven to noon; ``down``: the minutes that failed."""
    return [
        result(name, ELEVEN + timedelta(minutes=m), "unhealthy" if m in down else "healthy", **data)
        for m in range(-1, 60)
    ]


def add_run(engine: Engine, job: str, at: datetime, outcome: str = "succeeded", **summary: Any) -> None:
    row = {
        "job": job,
        "started_at": at,
        "duration": 0.5,
        "outcome": outcome,
        "summary": summary,
        "host": "h",
    }
    with engine.database.transaction() as connection:
        connection.execute(sa.insert(job_runs).values(row))


def check_named(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [check for check in report["checks"] if check["name"] == name]
    return found


def count(engine: Engine) -> int:
    with engine.database.snapshot() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(reports)).scalar_one())


def test_a_report_tells_what_the_rows_of_its_hour_say(each_engine: Engine, clock: Clock) -> None:
    engine = each_engine
    add_results(
        engine,
        *an_hour_of("redis"),
        *an_hour_of("payments", down=frozenset({20, 21, 22})),
        *an_hour_of("disk", percent=41.5),
        result("disk", ELEVEN + timedelta(minutes=30, seconds=30), percent=77.0),
        result("redis", NOON, "unhealthy"),  # the next hour's
    )
    add_run(engine, "monitor_circuit_breakers", ELEVEN + timedelta(minutes=4))
    add_run(
        engine, "monitor_circuit_breakers", ELEVEN + timedelta(minutes=6), "failed", error="Boom: it broke"
    )
    add_run(
        engine,
        "cleanup_temp_files",
        ELEVEN + timedelta(minutes=1),
        freed_bytes=1000,
        removed=2,
        dry_run=False,
    )
    add_run(engine, "cleanup_temp_files", ELEVEN + timedelta(minutes=2), freed_bytes=500, removed=1)
    add_run(
        engine, "cleanup_temp_files", ELEVEN + timedelta(minutes=3), freed_bytes=9, removed=9, dry_run=True
    )
    with engine.database.transaction() as connection:
        connection.execute(
            sa.insert(breaker_transitions),
            [
                {
                    "breaker": "payments",
                    "epoch": number,
                    "from_state": came,
                    "to_state": went,
                    "reason": "r",
                    "actor": None,
                    "at": ELEVEN + timedelta(minutes=minute),
                    "details": {"gap": True} if number == 3 else {},
                }
                for number, came, went, minute in (
                    (1, "closed", "open", -100),
                    (2, "open", "closed", -90),
                    (3, "closed", "open", 20),
                    (4, "open", "half_open", 21),
                    (5, "half_open", "closed", 22),
                )
            ],
        )

    row = service.generate(engine, until=NOON)
    report = json.loads(row.json)

    assert report["period"] == {
        "start": "2026-03-01T11:00:00Z",
        "end": "2026-03-01T12:00:00Z",
        "seconds": 3600.0,
        "zone": "UTC",
        "parts": [120.0] * 30,
    }
    payments = check_named(report, "payments")
    assert payments["uptime"] == 0.95
    assert payments["words"] == "95%"
    assert payments["seconds"] == {
        "up": 3420.0,
        "degraded": 0.0,
        "down": 180.0,
        "unknown": 0.0,
        "maintenance": 0.0,
        "paused": 0.0,
    }
    assert payments["target_met"] is False
    assert (payments["kind"], payments["last_message"]) == (None, "payments is healthy")
    assert check_named(report, "redis")["words"] == "100%"
    assert check_named(report, "redis")["required"] is True

    silent = check_named(report, "celery-worker")
    assert (silent["uptime"], silent["words"], silent["target_met"]) == (None, "unknown", None)
    assert silent["strip"]["states"] == "x" * 30

    assert report["resources"] == [
        {
            "name": "disk",
            "kind": "disk",
            "last_percent": 41.5,
            "max_percent": 77.0,
            "message": "disk is healthy",
        }
    ]
    assert report["breakers"] == [
        {
            "name": "payments",
            "openings": 1,
            "open_seconds": 60.0,
            "half_open_seconds": 60.0,
            "state_at_end": "closed",
            "gaps": 1,
        }
    ]
    jobs = {job["name"]: job for job in report["jobs"]}
    assert jobs["monitor_circuit_breakers"]["runs"] == 2
    assert jobs["monitor_circuit_breakers"]["failed"] == 1
    assert jobs["monitor_circuit_breakers"]["last_error"] == "Boom: it broke"
    assert jobs["prune_history"]["runs"] == 0
    totals = {entry["job"]: entry["totals"] for entry in report["clean_up"]}
    assert totals["cleanup_temp_files"] == {"removed": 3, "freed_bytes": 1500}
    assert row.headline.startswith("1 check down at times, worst payments at 95.0%; too little known of")
    assert "1 job run failed" in row.headline
    for text in (row.markdown, row.html):
        assert "payments" in text
        assert row.digest in text


def test_letters_are_told_as_flow_of_the_period_and_as_they_stand_now(
    each_engine: Engine, clock: Clock
) -> None:
    clock.now = ELEVEN + timedelta(minutes=10)
    letters = [
        dead_letters.capture(each_engine, of_message({"n": n}, error="no", message_type="mail"))
        for n in range(3)
    ]
    dead_letters.discard(each_engine, letters[0], actor="me@here", reason="a test")
    clock.now = NOON + timedelta(minutes=7)
    report = json.loads(service.generate(each_engine, until=NOON).json)
    assert report["dead_letters"]["captured"] == 3
    assert report["dead_letters"]["discarded"] == 1
    assert report["now"]["dead_letters"]["pending"] == 2
    assert report["now"]["oldest_unsettled"] is not None
    assert "3 dead letters captured, 2 waiting" in report["headline"]


def test_retries_and_fallbacks_are_what_their_counts_grew_by(each_engine: Engine, clock: Clock) -> None:
    counts = (("retry_attempts_total", "function", "pay"), ("fallback_usage_total", "service", "bank"))
    for minute in range(0, 66, 5):
        clock.now = ELEVEN + timedelta(minutes=minute)
        counted.fold(each_engine)
        for name, label, told in counts:
            each_engine.redis.hincrby(KEY, field_of(name, {label: told}), 3)
    row = service.generate(each_engine, until=NOON)
    report = json.loads(row.json)
    assert report["retries"] == {
        "coverage": 1.0,
        "attempts": 36,
        "exhausted": 0,
        "budget_refused": 0,
        "functions": [{"name": "pay", "attempts": 36, "exhausted": 0, "budget_refused": 0}],
    }
    assert report["fallbacks"] == {"coverage": 1.0, "used": 36, "services": [{"service": "bank", "used": 36}]}
    earlier = json.loads(service.generate(each_engine, until=ELEVEN).json)
    assert (earlier["retries"]["attempts"], earlier["fallbacks"]["used"]) == (None, None)


def test_a_report_made_right_after_its_period_is_not_amended_by_the_next_look_at_the_counts(
    each_engine: Engine, clock: Clock
) -> None:
    for seconds in range(0, 3600, 30):
        clock.now = ELEVEN + timedelta(seconds=seconds)
        counted.fold(each_engine)
    clock.now = NOON + timedelta(seconds=5)
    service.generate_due(each_engine)
    made = service.generate(each_engine, until=NOON)
    assert json.loads(made.json)["retries"]["coverage"] == 1.0
    clock.now = NOON + timedelta(seconds=25)
    counted.fold(each_engine)
    assert service.generate_due(each_engine)["amended"] == 0
    assert service.generate(each_engine, until=NOON) == made


def test_the_same_facts_are_one_report_however_often_it_is_made(each_engine: Engine, clock: Clock) -> None:
    add_results(each_engine, *an_hour_of("redis"))
    first = service.generate(each_engine, until=NOON)
    clock.now += timedelta(minutes=10)
    assert service.generate(each_engine, until=NOON) == first
    assert count(each_engine) == 1


def test_two_workers_at_once_make_one_report(each_engine: Engine, clock: Clock) -> None:
    add_results(each_engine, *an_hour_of("redis"))
    together = threading.Barrier(4, timeout=30)
    made: list[str] = []

    def make() -> None:
        together.wait()
        made.append(service.generate(each_engine, until=NOON).id)

    workers = [threading.Thread(target=make) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    assert count(each_engine) == 1


def test_data_that_came_late_make_a_further_version_and_leave_the_first_as_it_was(
    each_engine: Engine, clock: Clock
) -> None:
    rows = an_hour_of("redis")
    add_results(each_engine, *rows[:30])
    first = service.generate(each_engine, until=NOON)
    add_results(each_engine, *rows[30:])
    clock.now += timedelta(minutes=1)
    second = service.generate(each_engine, until=NOON)
    assert (first.version, second.version) == (1, 2)
    assert service.get(each_engine, first.id) == first
    assert [row.version for row in service.list_reports(each_engine)] == [2, 1]
    assert first.digest != second.digest


def test_a_kept_report_can_be_proved_unchanged(each_engine: Engine, clock: Clock) -> None:
    row = service.generate(each_engine, until=NOON)
    assert row.intact
    assert digest_of(row.json) == row.digest
    with each_engine.database.transaction() as connection:
        connection.execute(sa.update(reports).values(json=row.json.replace("hourly", "hourlY")))
    assert not service.get(each_engine, row.id).intact


def test_the_job_reports_on_the_last_full_hour_and_makes_up_for_missed_ones(
    make_settings: Callable[..., Any], redis_url: str, database_url: str
) -> None:
    settings = make_settings(redis_url, database_url, REGROW_SCHEDULE__GENERATE_RELIABILITY_REPORT="3600")
    clock = Clock(NOON + timedelta(minutes=7))
    engine = Engine(settings, clock=clock)
    engine.database.upgrade()
    summary = service.generate_due(engine)
    assert (summary["new"], summary["amended"]) == (1, 0)
    clock.now += timedelta(hours=3)
    add_results(engine, result("redis", NOON - timedelta(minutes=5)))  # late, for the report made first
    summary = service.generate_due(engine)
    assert (summary["new"], summary["amended"]) == (4, 1)
    ends = [(row.period_end, row.version) for row in service.list_reports(engine)]
    assert ends == [
        (NOON + timedelta(hours=3), 1),
        (NOON + timedelta(hours=2), 1),
        (NOON + timedelta(hours=1), 1),
        (NOON, 2),
        (NOON, 1),
    ]
    assert service.generate_due(engine)["new"] == 0
    engine.close()


def test_the_task_leaves_a_job_run_with_the_headline(each_engine: Engine, clock: Clock) -> None:
    from tasks.reports import generate_reliability_report

    set_engine(each_engine)
    try:
        summary = generate_reliability_report()
    finally:
        set_engine(None)
    (run,) = recent(each_engine, "generate_reliability_report")
    assert run.outcome == "succeeded"
    assert run.summary == summary
    assert summary["headline"] == service.get(each_engine, summary["report"]).headline


def test_a_report_is_found_by_the_beginning_of_its_id_if_that_names_one(
    each_engine: Engine, clock: Clock
) -> None:
    old = service.generate(each_engine, until=NOON - timedelta(days=40))
    new = service.generate(each_engine, until=NOON)
    assert service.get(each_engine, new.id[:12]) == new
    assert service.get(each_engine, old.id[:12]) == old
    for unclear in ("", "0", "%", "_", "nonsense"):
        with pytest.raises(ReportNotFoundError):
            service.get(each_engine, unclear)


def test_lists_can_be_limited_to_a_kind(each_engine: Engine, clock: Clock) -> None:
    service.generate(each_engine, until=NOON)
    now = service.generate(each_engine, kind="now")
    assert now.period_end == clock.now
    assert [row.id for row in service.list_reports(each_engine, kind="now")] == [now.id]
    assert len(service.list_reports(each_engine, limit=1)) == 1


def test_the_time_in_each_level_adds_up_to_the_period(engine: Engine) -> None:
    degradation.evaluate(engine, checks("a", "b", "c"))
    row = service.generate(engine, until=engine.clock() + timedelta(seconds=2))
    spent = json.loads(row.json)["degradation"]
    assert sum(spent.values()) == 3600.0
    assert spent["moderate"] > 0
    assert spent["unknown"] > 3590


def test_days_and_months_are_reported_on_once_they_are_over_and_there_was_something_to_see(
    make_settings: Callable[..., Any], redis_url: str, sqlite_url: str
) -> None:
    settings = make_settings(
        redis_url,
        sqlite_url,
        REGROW_SCHEDULE__GENERATE_RELIABILITY_REPORT="3600",
        REGROW_REPORTS__ZONE="Europe/Berlin",
    )
    berlin = ZoneInfo("Europe/Berlin")
    clock = Clock(datetime(2026, 3, 29, 23, 7, tzinfo=berlin))
    engine = Engine(settings, clock=clock)
    engine.database.upgrade()
    add_results(engine, result("redis", datetime(2026, 3, 29, 12, tzinfo=berlin)))

    service.generate_due(engine)
    assert {row.kind for row in service.list_reports(engine)} == {"hourly"}

    clock.now += timedelta(hours=1)
    assert service.generate_due(engine)["new"] == 2
    (day,) = service.list_reports(engine, kind="daily")
    assert day.period_start == datetime(2026, 3, 29, tzinfo=berlin)
    assert day.period_end - day.period_start == timedelta(hours=23)
    assert len(check_named(json.loads(service.get(engine, day.id).json), "redis")["strip"]["states"]) == 23

    clock.now = datetime(2026, 4, 1, 0, 7, tzinfo=berlin)
    service.generate_due(engine)
    (month,) = service.list_reports(engine, kind="monthly")
    assert month.period_start == datetime(2026, 3, 1, tzinfo=berlin)
    told = json.loads(service.get(engine, month.id).json)
    assert set(told["left_out"]) == {"resources", "jobs", "clean_up"}
    assert len(told["period"]["parts"]) == 31
    assert service.generate_due(engine)["new"] == 0
    engine.close()


def test_what_an_amendment_changed_is_told_value_by_value(each_engine: Engine, clock: Clock) -> None:
    rows = an_hour_of("redis")
    add_results(each_engine, *rows[:50])
    first = service.generate(each_engine, until=NOON)
    add_results(each_engine, *rows[50:])
    clock.now += timedelta(minutes=1)
    second = service.generate(each_engine, until=NOON)
    found = service.changes(each_engine, second.id)
    assert (found.before.id, found.after.id) == (first.id, second.id)
    told = {change.where: (change.before, change.after) for change in found.changes}
    assert told["checks / redis / probes"] == (49, 60)
    assert told["checks / redis / words"] == ("insufficient data", "100%")
    assert not any(where.startswith("now") for where in told)
    with pytest.raises(ReportNotFoundError, match="first version"):
        service.changes(each_engine, first.id)
    assert service.changes(each_engine, first.id, first.id).changes == ()


def test_each_kind_is_kept_for_its_own_time(each_engine: Engine, clock: Clock) -> None:
    for kind in ("hourly", "daily", "monthly", "now"):
        service.generate(each_engine, until=NOON, kind=kind)
    clock.now = NOON + timedelta(days=100)
    assert service.prune(each_engine) == 2
    assert {row.kind for row in service.list_reports(each_engine)} == {"daily", "monthly"}
    clock.now = NOON + timedelta(days=500)
    assert service.prune(each_engine) == 1
    assert [row.kind for row in service.list_reports(each_engine)] == ["monthly"]


def test_a_past_day_can_be_reported_on_by_hand(each_engine: Engine, clock: Clock) -> None:
    row = service.generate_last(each_engine, "daily", NOON - timedelta(days=1))
    assert (row.kind, row.period_end) == ("daily", datetime(2026, 2, 28, tzinfo=UTC))

"""Every run leaves a row that says what became of it, and no row is worth more than the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from regrow.database.tables import check_results, job_runs, reports
from regrow.engine import Engine, set_engine
from regrow.errors import RegrowError
from regrow.jobs import JOBS, latest, recent, record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fail(engine: Engine, job: str, **told: Any) -> None:
    with record(engine, job) as run:
        for name, value in told.items():
            setattr(run, name, value)
        raise RegrowError("no luck")


def test_a_run_leaves_its_summary_its_time_and_its_outcome(each_engine: Engine) -> None:
    before = datetime.now(UTC)
    with record(each_engine, "cleanup_temp_files") as run:
        run.summary = {"files": 3, "folders": {"/srv/tmp": 3}}
    (kept,) = recent(each_engine)
    assert (kept.job, kept.outcome) == ("cleanup_temp_files", "succeeded")
    assert kept.summary == {"files": 3, "folders": {"/srv/tmp": 3}}
    assert before - timedelta(milliseconds=1) <= kept.started_at <= datetime.now(UTC)
    assert 0 <= kept.duration < 60
    assert kept.host


def test_a_run_that_fails_is_kept_as_failed_and_still_fails(each_engine: Engine) -> None:
    with pytest.raises(RegrowError, match="no luck"):
        fail(each_engine, "prune_history", summary={"so_far": 7})
    (kept,) = recent(each_engine)
    assert kept.outcome == "failed"
    assert kept.summary == {"so_far": 7, "error": "RegrowError: no luck"}


def test_a_run_that_its_worker_ends_is_kept_as_skipped_because_it_runs_again(each_engine: Engine) -> None:
    with pytest.raises(SystemExit), record(each_engine, "prune_history"):
        raise SystemExit(1)
    [run] = recent(each_engine)
    assert run.outcome == "skipped"
    assert "runs again" in run.summary["cancelled"]


@pytest.mark.parametrize("outcome", ["partial", "skipped"])
def test_a_run_can_say_that_it_was_not_plain_success(each_engine: Engine, outcome: Any) -> None:
    with record(each_engine, "prune_history") as run:
        run.outcome = outcome
    assert [run.outcome for run in recent(each_engine)] == [outcome]


def test_a_silent_run_leaves_no_row_unless_it_fails(each_engine: Engine) -> None:
    with record(each_engine, "health_check_monitoring") as run:
        run.silent = True
    assert recent(each_engine) == []
    with pytest.raises(RegrowError, match="no luck"):
        fail(each_engine, "health_check_monitoring", silent=True)
    assert [run.outcome for run in recent(each_engine)] == ["failed"]


def test_a_database_that_is_away_loses_the_row_and_not_the_run(make_settings: Any, tmp_path: Path) -> None:
    engine = Engine(make_settings(database_url="mysql+pymysql://root@127.0.0.1:1/none"))
    done = []
    with capture_logs() as logs, record(engine, "cleanup_temp_files") as run:
        done.append(True)
        run.summary = {"files": 1}
    assert done == [True]
    assert [entry["event"] for entry in logs if entry["event"].startswith("job.")] == [
        "job.finished",
        "job.unrecorded",
    ]
    assert logs[0]["files"] == 1
    with pytest.raises(RegrowError, match="its own"), record(engine, "cleanup_temp_files"):
        raise RegrowError("its own error, not the database's")
    engine.close()


def test_a_finished_run_is_told_in_the_log(engine: Engine) -> None:
    with capture_logs() as logs, record(engine, "prune_history") as run:
        run.summary = {"job": "not mine", "rows": 2, "nested": {"a": 1}}
    (entry,) = logs
    assert (entry["event"], entry["job"], entry["outcome"]) == ("job.finished", "prune_history", "succeeded")
    assert (entry["n_job"], entry["rows"]) == ("not mine", 2)
    assert "nested" not in entry
    assert entry["seconds"] >= 0


def test_runs_are_listed_newest_first_of_one_job_or_all(each_engine: Engine) -> None:
    for job in ("prune_history", "cleanup_temp_files", "prune_history"):
        with record(each_engine, job):
            pass
    assert [run.job for run in recent(each_engine)] == [
        "prune_history",
        "cleanup_temp_files",
        "prune_history",
    ]
    assert len(recent(each_engine, "prune_history")) == 2
    assert len(recent(each_engine, limit=1)) == 1
    assert recent(each_engine, "no_such_job") == []


def test_the_latest_run_of_each_job_is_its_newest(each_engine: Engine) -> None:
    for number in range(3):
        with record(each_engine, "prune_history") as run:
            run.summary = {"number": number}
    found = latest(each_engine)
    assert set(found) == {"prune_history"}
    assert found["prune_history"].summary == {"number": 2}


def test_every_job_in_the_list_is_one_that_beat_sends() -> None:
    from worker.schedule import TASKS

    # These leave rows for news alone.
    assert set(JOBS) == set(TASKS) - {
        "due_checks",
        "evaluate_alerts",
        "evaluate_degradation",
        "follow_incidents",
        "recover_services",
        "probe_open_services",
    }


def age(engine: Engine, days: float) -> datetime:
    return engine.clock() - timedelta(days=days)


def add_history(engine: Engine, days: float) -> None:
    """One row of each table that was written so many days ago."""
    at = age(engine, days)
    run = {"job": "j", "started_at": at, "duration": 1.0, "outcome": "succeeded", "summary": {}, "host": "h"}
    result = {
        "check_name": "c",
        "at": at,
        "status": "healthy",
        "latency": 0.0,
        "interval": 60.0,
        "message": "",
        "data": {},
    }
    report = {
        "id": f"r{days}",
        "kind": "hourly",
        "period_start": at,
        "period_end": at,
        "created_at": at,
        "digest": "d",
        "headline": "h",
        "json": "{}",
        "markdown": "",
        "html": "",
    }
    with engine.database.transaction() as connection:
        for table, row in ((job_runs, run), (check_results, result), (reports, report)):
            connection.execute(sa.insert(table).values(row))


def ages(engine: Engine, column: sa.Column[Any]) -> list[float]:
    """How old the rows are that are left, in days."""
    with engine.database.snapshot() as connection:
        found = connection.execute(sa.select(column).order_by(column.desc())).scalars()
        return [round((NOW - at).total_seconds() / 86_400, 3) for at in found]


def test_pruning_keeps_each_history_as_long_as_its_setting_says(each_engine: Engine) -> None:
    each_engine.clock = lambda: NOW
    for days in (0, 2.9, 3.1, 13.9, 14.1, 89.9, 90.1, 400):
        add_history(each_engine, days)
    from tasks.jobs import prune_history

    set_engine(each_engine)
    try:
        summary = prune_history()
    finally:
        set_engine(None)
    assert summary == {
        "job_runs": 4,
        "check_results": 6,
        "check_changes": 0,
        "capture_sources": 0,
        "breaker_transitions": 0,
        "audit": 0,
        "degradation_changes": 0,
        "request_rollups": 0,
        "counted": 0,
        "reports": 2,
        "recoveries": 0,
        "recovery_events": 0,
        "alerts": 0,
        "incidents": 0,
        "state_spans": 0,
        "rollups_minute": 0,
        "rollups_hour": 0,
        "rollups_day": 0,
    }
    assert ages(each_engine, check_results.c.at) == [0, 2.9]
    assert ages(each_engine, job_runs.c.started_at) == [
        0,
        0,
        2.9,
        3.1,
        13.9,
    ]  # the pruning's own run with them
    assert ages(each_engine, reports.c.created_at) == [0, 2.9, 3.1, 13.9, 14.1, 89.9]
    (run,) = recent(each_engine, "prune_history")
    assert run.summary == summary


def test_old_transitions_go_but_the_last_of_each_breaker_and_old_acts_go(each_engine: Engine) -> None:
    from regrow import audit, history
    from regrow.database.tables import audit as acts
    from regrow.database.tables import breaker_transitions as transitions

    each_engine.clock = lambda: NOW
    known: dict[str, Any] = {"from_state": "closed", "to_state": "open", "reason": "", "details": {}}
    moved = [("idle", 1, 500), ("idle", 2, 450), ("busy", 1, 500), ("busy", 2, 399)]
    with each_engine.database.transaction() as connection:
        for breaker, epoch, days in moved:
            row = {"breaker": breaker, "epoch": epoch, "at": NOW - timedelta(days=days), **known}
            connection.execute(sa.insert(transitions).values(row))
        for days in (401, 399):
            at = NOW - timedelta(days=days)
            audit.write(connection, at=at, actor="ann", act="a", subject="s", reason="r")
    went = history.prune(each_engine)
    assert (went["breaker_transitions"], went["audit"]) == (2, 1)
    assert ages(each_engine, transitions.c.at) == [399, 450]
    assert ages(each_engine, acts.c.at) == [399]


def test_pruning_goes_on_past_the_size_of_one_chunk(each_engine: Engine) -> None:
    from regrow import history

    each_engine.clock = lambda: NOW
    row = {
        "check_name": "c",
        "status": "healthy",
        "latency": 0.0,
        "interval": 60.0,
        "message": "",
        "data": {},
    }
    with each_engine.database.transaction() as connection:
        connection.execute(
            sa.insert(check_results),
            [{**row, "at": NOW - timedelta(days=30, seconds=n)} for n in range(2_500)],
        )
    went = history.prune(each_engine)
    assert went.pop("check_results") == 2_500
    assert not any(went.values())

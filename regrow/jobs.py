"""Job runs: every run of a scheduled job leaves one row, whatever became of it.

Each job has one shape::

    with record(engine, "cleanup_temp_files") as run:
        run.summary = clean(...)
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
import structlog

from regrow import counters
from regrow.database.tables import job_runs
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError

logger = structlog.get_logger(__name__)

Outcome = Literal["succeeded", "partial", "failed", "skipped"]

# The jobs beat schedules, in the order people read them.
JOBS = (
    "health_check_monitoring",
    "monitor_circuit_breakers",
    "process_dead_letter_queue_batch",
    "cleanup_temp_files",
    "generate_reliability_report",
    "cleanup_old_dlq_messages",
    "fold_dead_letter_ledger",
    "roll_up_results",
    "watch_trends",
    "fold_request_counts",
    "forecast_capacity",
    "prune_history",
)


@dataclass
class Run:
    """A run in progress; set ``summary`` (JSON values) and, when it was not plain success, ``outcome``."""

    job: str
    started_at: datetime
    summary: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "succeeded"
    silent: bool = False
    """Leave no row: for ticks that found nothing due."""


@dataclass(frozen=True)
class JobRun:
    """A finished run as it is kept. ``duration`` in seconds."""

    job: str
    started_at: datetime
    duration: float
    outcome: Outcome
    summary: dict[str, Any]
    host: str


@contextmanager
def record(engine: Engine, job: str) -> Iterator[Run]:
    """Measure a run and keep its row; an error makes the outcome ``failed`` and goes on upwards.

    A database that is away cannot keep the row: the run is then told in the log alone, because losing the
    record of a run is better than losing the run.
    """
    run = Run(job, engine.clock())
    began = time.monotonic()
    try:
        yield run
    except SystemExit as end:
        # The worker took the child away, because it stops or lost its broker: the message is delivered again.
        run.outcome, run.silent = "skipped", False
        run.summary = {**run.summary, "cancelled": f"the worker ended it (exit {end.code}); it runs again"}
        raise
    except BaseException as error:
        run.outcome = "failed"
        run.silent = False
        run.summary = {**run.summary, "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        if not run.silent:
            _keep(engine, run, time.monotonic() - began)


def _keep(engine: Engine, run: Run, duration: float) -> None:
    log = logger.warning if run.outcome in {"failed", "partial"} else logger.info
    log("job.finished", job=run.job, outcome=run.outcome, seconds=round(duration, 3), **_told(run.summary))
    row = {
        "job": run.job,
        "started_at": run.started_at,
        "duration": duration,
        "outcome": run.outcome,
        "summary": run.summary,
        "host": socket.gethostname(),
    }
    try:
        engine.database.run(lambda connection: connection.execute(sa.insert(job_runs).values(row)))
    except (StoreUnavailableError, sa.exc.DBAPIError) as error:
        logger.error("job.unrecorded", job=run.job, outcome=run.outcome, error=str(error))  # noqa: TRY400
    counters.add(engine, "regrow_job_runs_total", {"job": run.job, "outcome": run.outcome})


def _told(summary: dict[str, Any]) -> dict[str, Any]:
    """The part of a summary that fits a log line."""
    return {
        f"n_{key}" if key in {"job", "outcome", "seconds", "event"} else key: value
        for key, value in summary.items()
        if isinstance(value, str | int | float | bool)
    }


def recent(engine: Engine, job: str | None = None, limit: int = 50) -> list[JobRun]:
    """The newest runs first, of one job or of all."""
    query = sa.select(job_runs).order_by(job_runs.c.started_at.desc(), job_runs.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(job_runs.c.job == job)
    with engine.database.snapshot() as connection:
        return [_job_run(row) for row in connection.execute(query).mappings()]


def latest(engine: Engine) -> dict[str, JobRun]:
    """The newest run of each job that has run."""
    return {run.job: run for job in JOBS for run in recent(engine, job, 1)}


def prune(engine: Engine, keep: timedelta) -> int:
    """Delete runs older than ``keep``, in chunks; returns how many."""
    from regrow.database.retention import delete_older

    return delete_older(engine.database, job_runs, job_runs.c.started_at, engine.clock() - keep)


def _job_run(row: Any) -> JobRun:
    return JobRun(row["job"], row["started_at"], row["duration"], row["outcome"], row["summary"], row["host"])

"""Health checks: the minute's job, and the shorter tick for checks with an interval of their own."""

from __future__ import annotations

from celery import shared_task

from regrow.engine import get_engine
from regrow.health import service
from regrow.jobs import record

JOB = "health_check_monitoring"


@shared_task(name="regrow.health.health_check_monitoring")
def health_check_monitoring() -> None:
    """Run every check that is due; always leaves a job run."""
    with record(get_engine(), JOB) as run:
        run.summary = service.run_due(get_engine())
        run.outcome = service.outcome_of(run.summary)


@shared_task(name="regrow.health.run_due_checks")
def run_due_checks() -> None:
    """Run the due checks that a minute's tick serves badly; leaves a job run only when any was due."""
    with record(get_engine(), JOB) as run:
        run.summary = service.run_due(get_engine(), own_tick_only=True)
        run.outcome = service.outcome_of(run.summary)
        run.silent = not run.summary["ran"] and not run.summary["postponed"]

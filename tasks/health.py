"""Health checks: the tick that runs what is due, its parts for other workers, and the minute's job run."""

from __future__ import annotations

from collections.abc import Sequence

from celery import shared_task

from regrow.engine import get_engine
from regrow.health import dead_man, service
from regrow.health.checks import canaries
from regrow.jobs import record

JOB = "health_check_monitoring"


@shared_task(name="regrow.health.health_check_monitoring")
def health_check_monitoring() -> None:
    """Run every check that is due, and tell what was found within the minute; always leaves a job run."""
    with record(get_engine(), JOB) as run:
        run.summary = service.run_of_minute(get_engine())
        run.outcome = service.outcome_of(run.summary)
    if run.outcome != "failed":
        dead_man.tell(get_engine())


@shared_task(name="regrow.health.run_due_checks")
def run_due_checks() -> None:
    """The tick: run the checks that are due; leaves a job run only when something was left out."""
    with record(get_engine(), JOB) as run:
        run.summary = service.run_due(get_engine())
        run.outcome = service.outcome_of(run.summary)
        run.silent = run.outcome == "succeeded"


@shared_task(name="regrow.health.run_chunk")
def run_chunk(names: Sequence[str], owner: str) -> None:
    """A part of a tick that was sent to whichever worker is free; leaves a job run as that does."""
    with record(get_engine(), JOB) as run:
        run.summary = service.run_chunk(get_engine(), names, owner)
        run.outcome = service.outcome_of(run.summary)
        run.silent = run.outcome == "succeeded"


@shared_task(name=canaries.ANSWER)
def answer_canary(broker: str | None, queue: str, number: str) -> None:
    """A canary ran in an app that does not know our Redis."""
    canaries.answer(get_engine().redis, broker, queue, number)

"""Results rolled up into spans and sums."""

from __future__ import annotations

from celery import shared_task

from regrow.engine import get_engine
from regrow.jobs import record
from regrow.slo import rolling


@shared_task(name="regrow.slo.roll_up_results")
def roll_up_results() -> None:
    """Make the minutes that are over, take in late results, close hours."""
    engine = get_engine()
    engine.refresh()
    with record(engine, "roll_up_results") as run:
        done = rolling.roll_up(engine)
        run.summary = done.told()
        run.outcome = "succeeded" if done.finished else "partial"

"""The look at the level that follows from what the checks found."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.degradation import service
from regrow.engine import get_engine
from regrow.health import service as health
from regrow.jobs import record


@shared_task(name="regrow.degradation.evaluate_degradation")
def evaluate_degradation() -> dict[str, Any]:
    """Score the checks as they stand and move the level on; leaves a job run for news and failures alone."""
    engine = get_engine()
    with record(engine, "evaluate_degradation") as run:
        run.summary = service.evaluate(engine, health.overview(engine).checks)
        run.outcome = "partial" if run.summary["not_written"] else "succeeded"
        run.silent = not run.summary["changed"] and run.outcome == "succeeded"
        return run.summary

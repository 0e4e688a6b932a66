"""The scheduled look at where capacity goes."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.capacity import service
from regrow.engine import get_engine
from regrow.jobs import record


@shared_task(name="regrow.capacity.forecast_capacity")
def forecast_capacity() -> dict[str, Any]:
    """Look for trends and forecasts in the kept history; the run's summary is what pages and alerts read."""
    engine = get_engine()
    with record(engine, service.JOB) as run:
        run.summary = service.forecast(engine)
        run.outcome = "partial" if run.summary["left_out"] else "succeeded"
        return run.summary

"""The hourly report."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.engine import get_engine
from regrow.jobs import record
from regrow.reports import service


@shared_task(name="regrow.reports.generate_reliability_report")
def generate_reliability_report() -> dict[str, Any]:
    """Report on the last full hour, on hours that were missed, and amend the newest one with late data."""
    engine = get_engine()
    with record(engine, "generate_reliability_report") as run:
        run.summary = service.generate_due(engine)
        return run.summary

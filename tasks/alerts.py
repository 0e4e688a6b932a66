"""The look of all alert rules, and the telling of what is to be told."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.alerts import service
from regrow.engine import get_engine
from regrow.jobs import record

SECONDS = 10.0
"""For which one run goes on telling; the next one goes on with what is left."""


@shared_task(name="regrow.alerts.evaluate_alerts")
def evaluate_alerts() -> dict[str, Any]:
    """Look and tell; leaves a job run only when something was told, or could not be."""
    engine = get_engine()
    with record(engine, "evaluate_alerts") as run:
        run.summary = service.tick(engine, seconds=SECONDS)
        run.outcome = "partial" if run.summary["put_off"] or run.summary["refused"] else "succeeded"
        run.silent = not any(run.summary[name] for name in ("notices", "sent", "put_off", "refused"))
        return run.summary

"""The scheduled look at the breakers that the apps share in Redis."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.breakers import history
from regrow.engine import get_engine
from regrow.jobs import record


@shared_task(name="regrow.breakers.monitor_circuit_breakers")
def monitor_circuit_breakers() -> dict[str, Any]:
    """Write every transition to the database once, and move open breakers nobody calls on to half-open."""
    engine = get_engine()
    with record(engine, "monitor_circuit_breakers") as run:
        run.summary = history.monitor(engine)
        return run.summary

"""The look at what happened, followed into incidents."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.engine import get_engine
from regrow.incidents import service
from regrow.jobs import record


@shared_task(name="regrow.incidents.follow_incidents")
def follow_incidents() -> dict[str, Any]:
    """Follow what happened since the last look; leaves a job run only when something came of it."""
    engine = get_engine()
    with record(engine, "follow_incidents") as run:
        run.summary = service.follow(engine)
        run.silent = not run.summary["changed"]
        return run.summary

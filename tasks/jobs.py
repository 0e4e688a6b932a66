"""The daily pruning of history."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow import history
from regrow.engine import get_engine
from regrow.jobs import record


@shared_task(name="regrow.jobs.prune_history")
def prune_history() -> dict[str, Any]:
    """Delete history and reports that are older than their settings keep them."""
    engine = get_engine()
    with record(engine, "prune_history") as run:
        run.summary = history.prune(engine)
        return run.summary

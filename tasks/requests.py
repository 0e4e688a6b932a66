"""Requests: what the processes of the apps told is added up and kept."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.engine import get_engine
from regrow.jobs import record
from regrow.requests import folding


@shared_task(name="regrow.requests.fold_request_counts")
def fold_request_counts() -> dict[str, Any]:
    """Keep every minute that is over and of which there is something new, and the hours they belong to.

    Leaves a job run every time: its absence is what tells that nobody adds up.
    """
    engine = get_engine()
    with record(engine, "fold_request_counts") as run:
        run.summary = folding.fold(engine)
        run.outcome = "partial" if run.summary["unreadable"] else "succeeded"
        return run.summary

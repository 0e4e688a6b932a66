"""Requests and counts: what the processes of the apps told is added up and kept."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow import counted
from regrow.engine import get_engine
from regrow.jobs import record
from regrow.requests import folding


@shared_task(name="regrow.requests.fold_request_counts")
def fold_request_counts() -> dict[str, Any]:
    """Keep what the apps told: every minute of requests that is over and of which there is something new, and
    the hours they belong to; and by how much the counts of retries and fallbacks grew.

    Leaves a job run every time: its absence is what tells that nobody adds up.
    """
    engine = get_engine()
    with record(engine, "fold_request_counts") as run:
        run.summary = {**folding.fold(engine), "counted": counted.fold(engine)}
        run.outcome = "partial" if run.summary["unreadable"] else "succeeded"
        return run.summary

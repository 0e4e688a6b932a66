"""Temp files: the hourly clean-up of the declared roots."""

from __future__ import annotations

from celery import shared_task

from regrow import temp_files
from regrow.engine import get_engine
from regrow.jobs import record


@shared_task(name="regrow.temp_files.cleanup_temp_files")
def cleanup_temp_files() -> None:
    """Clean by age, size and pattern; ``partial`` when something could not be read or removed in time,
    or a quota not be kept."""
    with record(get_engine(), "cleanup_temp_files") as run:
        run.summary = temp_files.clean(get_engine())
        whole = run.summary["finished"] and not run.summary["errors"] and not run.summary["over"]
        run.outcome = "succeeded" if whole else "partial"

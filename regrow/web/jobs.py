"""The scheduled jobs as people see them: what each is for, what it found, whether it still runs.

Rules only. A job whose last run is too old is *unknown*, however well that run ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from regrow.jobs import JOBS, JobRun
from regrow.settings import Settings
from regrow.web.findings import finding
from regrow.web.reading import Fact, Unknown

Status = Literal["healthy", "degraded", "unhealthy", "unknown"]
Pace = Literal["on time", "never ran yet", "overdue"]

_STATUS_OF_OUTCOME: Mapping[str, Status] = {
    "succeeded": "healthy",
    "partial": "degraded",
    "failed": "unhealthy",
    "skipped": "unknown",
}

# Title, and what the job is there for.
_DESCRIPTIONS = {
    "health_check_monitoring": ("Health checks", "Looks after everything this system depends on."),
    "monitor_circuit_breakers": ("Circuit breakers", "Watches the breakers that the apps share."),
    "process_dead_letter_queue_batch": ("Dead letters", "Sends failed messages home, each settled once."),
    "cleanup_temp_files": ("Temporary files", "Clears old files out of the declared folders."),
    "generate_reliability_report": ("Reliability report", "Writes down whether the promises were kept."),
    "cleanup_old_dlq_messages": ("Settled letters", "Forgets dead letters settled long ago."),
    "fold_dead_letter_ledger": ("Ledger", "Compares the books with the dead letters that are there."),
    "roll_up_results": ("Sums", "Adds up where the time of each check went, hour by hour."),
    "watch_trends": ("Early warnings", "Looks for latency and failure rates that will soon be too high."),
    "fold_request_counts": ("Requests", "Adds up what the apps told of their requests."),
    "forecast_capacity": ("Capacity", "Looks where it goes, and when a disk will be full."),
    "prune_history": ("History", "Forgets results and runs past their keeping."),
}
MAIN = JOBS[:5]


@dataclass(frozen=True)
class JobView:
    """One job on the page. ``interval`` in seconds; ``run`` None while it never ran."""

    name: str
    title: str
    purpose: str
    interval: float
    run: JobRun | None
    pace: Pace
    status: Status
    finding: str
    due_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        run = self.run
        return {
            "job": self.name,
            "status": self.status,
            "pace": self.pace,
            "interval_seconds": self.interval,
            "last_run_at": run.started_at.isoformat() if run else None,
            "duration_seconds": round(run.duration, 6) if run else None,
            "outcome": run.outcome if run else None,
            "finding": self.finding,
            "summary": run.summary if run else None,
            "next_due_at": self.due_at.isoformat() if self.due_at else None,
        }


def views(
    settings: Settings, latest: Mapping[str, JobRun], now: datetime, watching_since: datetime
) -> list[JobView]:
    """All jobs in the order people read them."""
    return [view(name, settings, latest.get(name), now, watching_since) for name in JOBS]


def jobs_json(
    runs: Fact[Mapping[str, JobRun]], settings: Settings, now: datetime, watching_since: datetime
) -> Any:
    """All jobs by name, or why nothing is known of them."""
    if isinstance(runs, Unknown):
        return runs.as_json()
    return {view.name: view.as_json() for view in views(settings, runs.value, now, watching_since)}


def view(
    name: str, settings: Settings, run: JobRun | None, now: datetime, watching_since: datetime
) -> JobView:
    """One job. ``watching_since``: when this process began, from which a job that never ran is late."""
    title, purpose = _DESCRIPTIONS.get(name, (name, ""))
    interval = float(getattr(settings.schedule, name))
    pace = pace_of(run, interval, now, watching_since)
    return JobView(
        name=name,
        title=title,
        purpose=purpose,
        interval=interval,
        run=run,
        pace=pace,
        status=_STATUS_OF_OUTCOME[run.outcome] if run and pace == "on time" else "unknown",
        finding=finding(run.job, run.outcome, run.summary) if run else "",
        due_at=run.started_at + timedelta(seconds=interval) if run else None,
    )


def pace_of(run: JobRun | None, interval: float, now: datetime, watching_since: datetime) -> Pace:
    """Whether the job keeps its schedule: one missed run is a hiccup, longer is overdue."""
    since = run.started_at if run else watching_since
    if now - since > timedelta(seconds=interval + grace(interval) + (run.duration if run else 0)):
        return "overdue"
    return "on time" if run else "never ran yet"


def grace(interval: float) -> float:
    """Seconds a run may be late: one interval, but not more than ten minutes; half a minute at least."""
    return 30.0 + min(interval, 600.0)

"""Jobs on the page: their pace, their words, and that silence is never success."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.jobs import JOBS, JobRun
from regrow.settings import load_settings
from regrow.web import jobs
from regrow.web.findings import finding

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTINGS = load_settings(environ={"REGROW_PROFILE": "development", "REGROW_REDIS_URL": "redis://127.0.0.1:1"})
MINUTE = 60.0


def run(
    seconds_ago: float, outcome: Any = "succeeded", job: str = "health_check_monitoring", **summary: Any
) -> JobRun:
    return JobRun(job, NOW - timedelta(seconds=seconds_ago), 0.5, outcome, summary, "host")


def seen(run: JobRun | None, up_for: float = 3600) -> jobs.JobView:
    return jobs.view("health_check_monitoring", SETTINGS, run, NOW, NOW - timedelta(seconds=up_for))


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("succeeded", "healthy"), ("partial", "degraded"), ("failed", "unhealthy"), ("skipped", "unknown")],
)
def test_a_fresh_run_shows_its_outcome(outcome: str, status: str) -> None:
    view = seen(run(30, outcome))
    assert (view.pace, view.status) == ("on time", status)
    assert view.due_at == NOW + timedelta(seconds=30)


@given(age=st.floats(0, 1e7), outcome=st.sampled_from(["succeeded", "partial", "failed", "skipped"]))
def test_an_old_run_is_unknown_however_it_ended(age: float, outcome: str) -> None:
    view = seen(run(age, outcome))
    late = age > MINUTE + jobs.grace(MINUTE) + 0.5
    assert view.pace == ("overdue" if late else "on time")
    if late:
        assert view.status == "unknown"


def test_a_run_that_took_long_is_not_late_for_it() -> None:
    long = JobRun("health_check_monitoring", NOW - timedelta(seconds=300), 200.0, "succeeded", {}, "host")
    assert seen(long).pace == "on time"


def test_a_job_that_never_ran_is_unknown_and_overdue_once_it_should_have() -> None:
    assert (seen(None, up_for=60).pace, seen(None, up_for=60).status) == ("never ran yet", "unknown")
    assert (seen(None, up_for=600).pace, seen(None, up_for=600).status) == ("overdue", "unknown")


@pytest.mark.parametrize(("interval", "seconds"), [(3, 33), (60, 90), (300, 330), (86400, 630)])
def test_a_job_may_be_late_by_an_interval_but_not_by_a_day(interval: float, seconds: float) -> None:
    assert jobs.grace(interval) == seconds


def test_every_scheduled_job_has_a_title_and_words() -> None:
    views = jobs.views(SETTINGS, {}, NOW, NOW)
    assert [view.name for view in views] == list(JOBS)
    assert all(view.title != view.name and view.purpose for view in views)


HEALTH = {"ran": 3, "healthy": 2, "degraded": 0, "unhealthy": 1, "unknown": 0}
REDRIVE = dict.fromkeys(
    ("returned", "leased", "dispatched", "resolved", "held", "released", "quarantined"), 0
)


@pytest.mark.parametrize(
    ("job", "summary", "words"),
    [
        ("health_check_monitoring", {"ran": 0}, "No check was due"),
        (
            "health_check_monitoring",
            {**HEALTH, "changed": ["disk"], "postponed": [], "not_written": {"redis": "away"}},
            "3 checks ran: 2 healthy, 1 unhealthy; changed: disk; not written to redis",
        ),
        ("monitor_circuit_breakers", {"breakers": 0}, "No app uses a circuit breaker yet"),
        (
            "monitor_circuit_breakers",
            {"breakers": 1, "closed": 0, "open": 0, "half_open": 1, "written": 0},
            "1 breaker: 1 half open; no change",
        ),
        ("process_dead_letter_queue_batch", REDRIVE, "No letter was due"),
        (
            "process_dead_letter_queue_batch",
            {**REDRIVE, "leased": 3, "dispatched": 1, "resolved": 1, "released": 1, "returned": 2},
            (
                "3 letters due: 2 sent home, 1 put back, the broker was away; "
                "2 letters taken back that nobody answered for"
            ),
        ),
        (
            "cleanup_temp_files",
            {"note": "no roots declared"},
            "No folder is declared under temp_files.roots, so nothing is touched",
        ),
        ("cleanup_temp_files", {"removed": 0, "scanned": 1}, "Nothing to remove among 1 file"),
        (
            "cleanup_temp_files",
            {"removed": 2, "scanned": 9, "freed_bytes": 1_500_000, "dry_run": True},
            "Would remove 2 files, free 1.5 MB",
        ),
        (
            "generate_reliability_report",
            {"headline": "9 checks without downtime"},
            "9 checks without downtime",
        ),
        ("cleanup_old_dlq_messages", {"purged": 0, "older_than_days": 7}, "Nothing old enough"),
        (
            "cleanup_old_dlq_messages",
            {"purged": 1, "older_than_days": 7},
            "Forgot 1 letter settled 7 days ago or earlier",
        ),
        (
            "cleanup_old_dlq_messages",
            {"purged": 3, "older_than_days": 7, "archived": 3, "archives": 1},
            "Forgot 3 letters settled 7 days ago or earlier, 3 letters put into 1 archive",
        ),
        (
            "fold_dead_letter_ledger",
            {"accepted": 5, "live": 2, "resolved": 3, "discarded": 0, "purged": 0, "unbalanced": {}},
            "5 letters accepted: 2 live, 3 resolved; the books balance",
        ),
        ("prune_history", {"job_runs": 3, "check_results": 0, "reports": 1}, "Forgot 3 job runs, 1 reports"),
        ("prune_history", {"job_runs": 0}, "Nothing old enough"),
        ("fold_request_counts", {"minutes": 2, "services": 1, "unreadable": 0}, "1 service, 2 minutes"),
        ("fold_request_counts", {"minutes": 0, "services": 0, "unreadable": 0}, "Nothing new of any app"),
        ("fold_request_counts", {"unreadable": 1}, "1 report of apps could not be read"),
        ("forecast_capacity", {"looked_at": 4, "trends": []}, "4 figures looked at; no trend"),
        (
            "forecast_capacity",
            {"looked_at": 4, "trends": [{"kind": "disk", "subject": "data", "direction": "rising"}]},
            "4 figures looked at; disk of data rising",
        ),
    ],
)
def test_a_summary_is_told_in_words(job: str, summary: dict[str, Any], words: str) -> None:
    assert finding(job, "succeeded", summary) == words


def test_a_failure_is_told_by_its_error() -> None:
    assert "mail" in finding("fold_dead_letter_ledger", "failed", {"unbalanced": {"mail": {"live": 1}}})
    assert (
        finding("prune_history", "failed", {"error": "StoreUnavailableError: away"})
        == "StoreUnavailableError: away"
    )


@given(
    job=st.sampled_from([*JOBS, "a job of another version"]),
    outcome=st.sampled_from(["succeeded", "failed"]),
    summary=st.dictionaries(
        st.sampled_from(["ran", "breakers", "leased", "removed", "headline", "purged", "note", "error", "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | st.lists(st.integers()),
    ),
)
def test_no_summary_of_another_version_breaks_the_page(
    job: str, outcome: str, summary: dict[str, Any]
) -> None:
    assert isinstance(finding(job, outcome, summary), str)
    assert finding(job, outcome, summary)

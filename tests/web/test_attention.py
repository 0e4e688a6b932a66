"""What needs attention: the order, and that nothing is well by default."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from regrow.alerts.model import Alert
from regrow.alerts.store import Kept
from regrow.breakers import BreakerConfig, BreakerStatus
from regrow.dead_letters.ledger import Account, Entry, Ledger
from regrow.dead_letters.sources import SourceCounts
from regrow.degradation.levels import Level
from regrow.degradation.service import Status as LevelStatus
from regrow.health import rules
from regrow.health.rules import CheckView, Overview
from regrow.incidents.model import Incident
from regrow.jobs import JOBS, JobRun
from regrow.metrics import LetterCounts
from regrow.settings import load_settings
from regrow.web import jobs
from regrow.web.attention import Notice, notices
from regrow.web.picture import Picture
from regrow.web.reading import Fact, Known, Unknown

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTINGS = load_settings(environ={"REGROW_PROFILE": "development", "REGROW_REDIS_URL": "redis://127.0.0.1:1"})
AWAY = Unknown("no answer within 3 seconds")


def checks(*statuses: Any, overall: Any = "healthy", required: bool = False) -> Known[Overview]:
    views = tuple(
        CheckView(f"check-{n}", "tcp", status, "seen", 0.1, NOW, 1.0, required, {}, {}, 60.0, status)
        for n, status in enumerate(statuses)
    )
    return Known(Overview(overall, "", NOW, views))


def runs(outcome: Any = "succeeded", age: float = 1.0, late: Any = JOBS, **summary: Any) -> Known[Any]:
    ages = {job: timedelta(seconds=age if job in late else 1.0) for job in JOBS}
    latest = {job: JobRun(job, NOW - ages[job], 0.1, outcome, summary, "host") for job in JOBS}
    return Known(jobs.views(SETTINGS, latest, NOW, NOW))


def breaker(state: str, override: str | None = None, retry_after: float = 12.0) -> Known[list[BreakerStatus]]:
    actor = "ada" if override else None
    told = BreakerStatus(
        "payments",
        state,
        1,
        NOW,
        retry_after,
        0,
        0,
        0,
        0,
        override,
        actor,
        "a drill" if override else None,
        None,
        BreakerConfig(),
    )
    return Known([told])


LETTERS = Known(LetterCounts({"pending": 3, "quarantined": 0}, NOW))
CALM: dict[str, Fact[Any]] = {
    "checks": checks("healthy"),
    "jobs": runs(),
    "breakers": breaker("closed"),
    "letters": LETTERS,
    "ledger": Known(Ledger((Account("payments", Entry(accepted=3), {"pending": 3}),))),
    "level": Known(LevelStatus(Level.NORMAL, known=True, why="score 100 of 100", since=NOW)),
    "recovery": Known([]),
    "incidents": Known([]),
    "alerts": Known([]),
}


def told(**facts: Fact[Any]) -> list[Notice]:
    return notices(**{**CALM, **facts})


def picture(**facts: Fact[Any]) -> Picture:
    chosen = {**CALM, **facts}
    return Picture(NOW, NOW, "testing", **chosen, reports=Known([]), notices=notices(**chosen))


def incident(kind: Any = "down", acknowledged: bool = False) -> Incident:
    return Incident(
        "i", "check:db", kind, "high", "open", "db is down", NOW, NOW, NOW if acknowledged else None
    )


def alert(**more: Any) -> Kept:
    fired = Alert("a", "disk_full", "disk", "medium", "firing", "soon full", NOW, NOW, "rule:disk_full")
    return Kept(dataclasses.replace(fired, **more), ())


def test_an_incident_that_nobody_looks_after_asks_for_somebody() -> None:
    (notice,) = told(incidents=Known([incident(), incident()]))
    assert (notice.status, notice.what) == ("unhealthy", "2 open incidents that nobody looks after")
    assert notice.why == "db is down and db is down"
    (notice,) = told(incidents=Known([incident("monitor")]))
    assert notice.status == "unknown", "of a silent monitor nothing is known but its silence"
    assert told(incidents=Known([incident(acknowledged=True)])) == []


def test_an_alert_that_is_told_by_itself_asks_for_attention() -> None:
    (notice,) = told(alerts=Known([alert(), alert(incident="i"), alert(held_by="silenced"), alert()]))
    assert (notice.status, notice.what) == ("degraded", "2 alerts firing")
    assert told(alerts=Known([alert(acknowledged_at=NOW)])) == []


def test_books_that_do_not_balance_are_named_by_service() -> None:
    lost = Account("payments", Entry(accepted=3), {"pending": 2})
    (notice,) = told(ledger=Known(Ledger((lost,))))
    assert (notice.status, notice.what) == ("unhealthy", "The ledger of payments does not balance")
    assert "1 live missing" in notice.why


def test_when_all_is_known_and_well_nothing_asks_for_attention() -> None:
    assert told() == []
    assert picture().status == "healthy"


@pytest.mark.parametrize("what", list(CALM))
def test_whatever_cannot_be_read_is_a_notice_and_the_picture_is_not_healthy(what: str) -> None:
    (notice,) = told(**{what: AWAY})
    assert notice.status == "unknown"
    assert notice.why == AWAY.why
    assert picture(**{what: AWAY}).status == "unknown"


@pytest.mark.parametrize("status", ["degraded", "unhealthy", "unknown"])
def test_a_check_that_is_not_healthy_is_a_notice_in_its_own_word(status: str) -> None:
    (notice,) = told(checks=checks("healthy", status))
    assert (notice.status, notice.what, notice.anchor) == (status, f"check-1 is {status}", "checks")


def test_a_silent_monitor_is_one_notice_not_one_for_each_check() -> None:
    (notice,) = told(checks=checks("unknown", "unknown", "unknown", overall="unknown"))
    assert notice.what == "Nothing is known about any check"


@pytest.mark.parametrize(("outcome", "status"), [("failed", "unhealthy"), ("partial", "degraded")])
def test_a_job_that_did_not_succeed_is_a_notice_with_its_reason(outcome: str, status: str) -> None:
    first, *_ = told(jobs=runs(outcome, error="the broker is away"))
    assert first.status == status
    if outcome == "failed":
        assert first.why == "the broker is away"


def test_a_job_that_is_overdue_is_unknown_and_named() -> None:
    notice, other = told(jobs=runs(age=200, late=("health_check_monitoring", "watch_trends")))
    assert (notice.status, notice.what) == ("unknown", "Health checks: the job is overdue")
    assert other.what == "Early warnings: the job is overdue"
    assert notice.why == "it should run every minute. Are a worker and beat running?"


def test_when_every_job_is_overdue_that_is_one_notice_about_who_runs_them() -> None:
    (notice,) = told(jobs=runs("failed", age=10 * 86400))
    assert (notice.status, notice.what) == ("unknown", f"{len(JOBS)} jobs are overdue")
    assert "Are a worker and beat running?" in notice.why


@pytest.mark.parametrize(
    ("state", "status", "why"),
    [
        ("open", "unhealthy", "calls are refused; the first probe may go in 12 s"),
        ("half_open", "degraded", "the next call is the probe that decides"),
    ],
)
def test_a_breaker_that_is_not_closed_is_a_notice(state: str, status: str, why: str) -> None:
    (notice,) = told(breakers=breaker(state))
    assert (notice.status, notice.why) == (status, why)


@pytest.mark.parametrize("override", ["forced_open", "disabled"])
def test_a_switch_that_a_person_holds_names_the_person(override: str) -> None:
    (notice,) = told(breakers=breaker("closed", override))
    assert notice.why == "by ada: a drill"


def test_quarantined_letters_wait_for_a_person() -> None:
    (notice,) = told(letters=Known(LetterCounts({"quarantined": 2}, NOW)))
    assert (notice.status, notice.what) == ("degraded", "2 dead letters in quarantine")


def test_messages_that_spools_accepted_and_nobody_received_are_an_alarm() -> None:
    counts = LetterCounts({}, NOW, SourceCounts(sources=4, missing=3, lost=1))
    assert [(notice.status, notice.what) for notice in told(letters=Known(counts))] == [
        ("unhealthy", "3 captured messages missing"),
        ("degraded", "1 captured message lost"),
    ]


def test_the_worst_comes_first() -> None:
    found = told(
        checks=checks("degraded", "unknown", "unhealthy", "healthy"),
        breakers=breaker("half_open"),
        letters=AWAY,
    )
    assert [notice.status for notice in found] == ["unhealthy", "unknown", "unknown", "degraded", "degraded"]


def test_a_broken_breaker_does_not_call_the_system_unhealthy_while_its_checks_are_well() -> None:
    assert picture(breakers=breaker("open")).status == "degraded"


def test_the_verdict_of_the_checks_is_not_softened() -> None:
    assert picture(checks=checks("unhealthy", overall="unhealthy"), letters=AWAY).status == "unhealthy"


@pytest.mark.parametrize(
    ("level", "says"),
    [
        (
            LevelStatus(Level.SEVERE, known=True, why="score 50", since=NOW),
            ("unhealthy", "The level is severe"),
        ),
        (
            LevelStatus(
                Level.NORMAL, known=True, why="a drill", since=NOW, ordered=Level.NORMAL, actor="ann"
            ),
            ("degraded", "The level is normal by hand, by ann"),
        ),
        (
            LevelStatus(Level.MINOR, known=False, why="not confirmed for 90 s", since=NOW),
            ("unknown", "The level of degradation is unknown"),
        ),
    ],
)
def test_a_level_that_is_not_normal_or_not_known_or_held_by_hand(
    level: LevelStatus, says: tuple[str, str]
) -> None:
    (notice,) = told(level=Known(level))
    assert (notice.status, notice.what) == says


def test_a_level_that_was_never_told_leaves_the_word_to_the_checks() -> None:
    assert not told(level=Known(LevelStatus(Level.MINOR, known=False, why="nobody has told a level")))


def test_checks_that_are_down_because_of_another_are_counted_with_it_and_flapping_is_one_notice() -> None:
    shown = checks("unhealthy", *["unhealthy"] * 20, "healthy").value
    root, *children, last = shown.checks
    hanging = [dataclasses.replace(child, cause=root.name) for child in children]
    flapping = dataclasses.replace(last, flapping=True)
    seen = Known(dataclasses.replace(shown, checks=(root, *hanging, flapping)))
    assert [(notice.status, notice.what) for notice in told(checks=seen)] == [
        ("unhealthy", "check-0 is unhealthy, and 20 checks because of it"),
        ("degraded", "check-21 is flapping"),
    ]


def test_a_check_that_is_down_speaks_for_itself_while_its_cause_is_not_confirmed() -> None:
    parent, child = checks("healthy", "unhealthy").value.checks
    seen = rules.overview(
        (dataclasses.replace(parent, status="unhealthy"), dataclasses.replace(child, cause=parent.name)), NOW
    )
    assert seen.message == "unhealthy: check-1; not confirmed yet: check-0"
    (notice,) = told(checks=Known(seen))
    assert (notice.status, notice.what) == ("unhealthy", "check-1 is unhealthy")


def test_what_is_bad_by_plan_is_no_alarm() -> None:
    (check,) = checks("unhealthy").value.checks
    planned = dataclasses.replace(check, maintenance="night")
    (notice,) = told(checks=Known(Overview("degraded", "", NOW, (planned,))))
    assert (notice.status, notice.what) == ("degraded", "check-0 is unhealthy, in maintenance")

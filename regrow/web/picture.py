"""The whole picture at one moment: every fact read at once, jobs judged, notices drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from regrow.alerts.store import Kept
from regrow.breakers import BreakerStatus
from regrow.capacity import service as capacity
from regrow.capacity.service import Forecast
from regrow.dead_letters.ledger import Ledger
from regrow.degradation.service import Status as LevelStatus
from regrow.health.rules import Overview, Status
from regrow.incidents.model import Incident
from regrow.metrics import LetterCounts
from regrow.recovery.service import ServiceStatus
from regrow.reports.service import ReportSummary
from regrow.web import attention, facts, jobs
from regrow.web.attention import Notice
from regrow.web.jobs import JobView
from regrow.web.reading import Fact, Known, Reader


@dataclass(frozen=True)
class Picture:
    """What is known ``at`` this moment; ``since``: when this process began."""

    at: datetime
    since: datetime
    profile: str
    checks: Fact[Overview]
    jobs: Fact[Sequence[JobView]]
    breakers: Fact[Sequence[BreakerStatus]]
    recovery: Fact[Sequence[ServiceStatus]]
    letters: Fact[LetterCounts]
    ledger: Fact[Ledger]
    reports: Fact[Sequence[ReportSummary]]
    notices: Sequence[Notice]
    level: Fact[LevelStatus]
    incidents: Fact[Sequence[Incident]]
    alerts: Fact[Sequence[Kept]]

    @property
    def forecast(self) -> Forecast | None:
        """Where capacity goes, by the last run of its job; None: nobody has looked lately."""
        views = self.jobs.value if isinstance(self.jobs, Known) else ()
        run = next((view.run for view in views if view.name == capacity.JOB), None)
        if run is None or "looked_at" not in run.summary or self.at - run.started_at > capacity.STALE:
            return None
        return capacity.forecast_of(run.started_at, run.summary)

    @property
    def status(self) -> Status:
        """The word over everything: healthy only when all is known and nothing asks for attention."""
        if not self.notices:
            return "healthy"
        verdict: Status = self.checks.value.status if isinstance(self.checks, Known) else "unknown"
        if verdict == "healthy":
            worst = self.notices[0].status
            return "degraded" if worst == "unhealthy" else worst
        return verdict


async def take(reader: Reader, since: datetime) -> Picture:
    """Read all at once; this takes as long as the slowest store, and never longer than the reader allows."""
    (
        (checks, runs, breakers, letters, ledger, newest),
        level,
        recovery,
        incidents,
        alerts,
    ) = await asyncio.gather(
        asyncio.gather(
            reader.read(facts.overview),
            reader.read(facts.latest_runs),
            reader.read(facts.breakers),
            reader.read(facts.letters),
            reader.read(facts.ledger),
            reader.read(facts.newest_reports),
        ),
        reader.read(facts.level),
        reader.read(facts.recovery),
        reader.read(facts.open_incidents),
        reader.read(facts.firing_alerts),
    )
    engine = reader.engine
    settings, now = engine.settings, engine.clock()
    views = Known(jobs.views(settings, runs.value, now, since)) if isinstance(runs, Known) else runs
    return Picture(
        at=now,
        since=since,
        profile=settings.profile,
        checks=checks,
        jobs=views,
        breakers=breakers,
        recovery=recovery,
        letters=letters,
        ledger=ledger,
        reports=newest,
        notices=attention.notices(
            checks, views, breakers, letters, ledger, level, recovery, incidents, alerts
        ),
        level=level,
        incidents=incidents,
        alerts=alerts,
    )

"""What the answers are made of: one function a fact, each reading one store through its noun's service."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from regrow import counters, jobs
from regrow.alerts import service as alert_service
from regrow.alerts.model import Silence
from regrow.alerts.service import Why
from regrow.alerts.store import Kept
from regrow.breakers import BreakerStatus, list_breakers
from regrow.database import migrating
from regrow.dead_letters import service as dead_letters
from regrow.dead_letters.ledger import Ledger
from regrow.degradation import service as degradation
from regrow.degradation.service import Status as LevelStatus
from regrow.drain import record
from regrow.drain.record import Course
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health import maintenance as windows
from regrow.health import service as health
from regrow.health import settings_standing as standing
from regrow.health.rules import Overview
from regrow.health.windows import Window
from regrow.incidents import service as incident_service
from regrow.incidents.model import Incident
from regrow.incidents.service import Dossier
from regrow.jobs import JobRun
from regrow.metrics import AlertCounts, LetterCounts
from regrow.recovery import service as recoveries
from regrow.recovery.service import ServiceStatus
from regrow.reports import service as reports
from regrow.reports.service import Comparison, ReportRow, ReportSummary
from regrow.slo import service as slo
from regrow.slo.objectives import Standing
from regrow.slo.service import Strip


def overview(engine: Engine) -> Overview:
    return health.overview(engine)


def maintenance(engine: Engine) -> Sequence[Window]:
    """The windows that hold now or begin within 35 days."""
    return windows.upcoming(engine, engine.clock())


def settings_standing(engine: Engine) -> Mapping[str, Mapping[str, Any]]:
    """What is wrong with the settings, by host; this process among them."""
    own = engine.settings_standing
    told = {"file": own.file, "refused": own.refused, "waiting_for_restart": list(own.waiting)}
    return {**standing.read(engine), **({} if own.is_in_force else {"this web process": told})}


def breakers(engine: Engine) -> Sequence[BreakerStatus]:
    return list_breakers(engine.redis)


def level(engine: Engine) -> LevelStatus:
    return degradation.status(engine)


def drains(engine: Engine) -> tuple[Sequence[Course], Sequence[Course]]:
    """Processes that drain now, and the ends of others, newest first."""
    return record.read(engine.redis, engine.clock().timestamp())


def recovery(engine: Engine) -> Sequence[ServiceStatus]:
    return recoveries.status(engine)


def incidents(engine: Engine, limit: int = 100) -> Sequence[Incident]:
    return incident_service.listed(engine, limit=limit)


def open_incidents(engine: Engine) -> Sequence[Incident]:
    return incident_service.listed(engine, status="open", limit=1_000)


def firing_alerts(engine: Engine) -> Sequence[Kept]:
    return alert_service.listed(engine, status="firing", limit=1_000)


def incident(engine: Engine, incident_id: str) -> Dossier:
    return incident_service.dossier(engine, incident_id)


def review(engine: Engine, incident_id: str) -> dict[str, Any]:
    return incident_service.as_review(engine, incident_service.dossier(engine, incident_id))


def alerts(engine: Engine, limit: int = 100) -> Sequence[Kept]:
    return alert_service.listed(engine, limit=limit)


def alert_counts(engine: Engine) -> AlertCounts:
    firing: Counter[str] = Counter(
        kept.alert.severity for kept in alert_service.listed(engine, status="firing", limit=10_000)
    )
    open_: Counter[str] = Counter(
        one.severity for one in incident_service.listed(engine, status="open", limit=10_000)
    )
    return AlertCounts(firing, open_, alert_service.waiting(engine))


def silences(engine: Engine) -> Sequence[Silence]:
    return alert_service.silences(engine)


def waiting_notices(engine: Engine) -> Mapping[str, tuple[int, datetime]]:
    return alert_service.waiting(engine)


def why(engine: Engine, name: str) -> Sequence[Why]:
    return alert_service.why(engine, name)


def letters(engine: Engine) -> LetterCounts:
    return LetterCounts(
        dead_letters.counts(engine), dead_letters.oldest_pending(engine), dead_letters.count_sources(engine)
    )


def ledger(engine: Engine) -> Ledger:
    return dead_letters.read_ledger(engine)


def latest_runs(engine: Engine) -> Mapping[str, JobRun]:
    return jobs.latest(engine)


def newest_reports(engine: Engine, limit: int = 8) -> Sequence[ReportSummary]:
    return reports.list_reports(engine, limit=limit)


def report(engine: Engine, report_id: str) -> ReportRow:
    return reports.get(engine, report_id)


def report_with_versions(engine: Engine, report_id: str) -> tuple[ReportRow, Sequence[ReportSummary]]:
    """A report, and all of its period and kind, the latest version first."""
    row = reports.get(engine, report_id)
    return row, reports.versions(engine, row)


def report_changes(engine: Engine, report_id: str, other_id: str | None) -> Comparison:
    return reports.changes(engine, report_id, other_id)


def latest_uptime(engine: Engine) -> Mapping[str, Any]:
    """The uptime of each check in the newest hourly report; None where too little is known of it."""
    newest = next((kept for kept in reports.list_reports(engine, limit=8) if kept.kind == "hourly"), None)
    if newest is None:
        return {"period": None, "checks": {}}
    told = json.loads(reports.get(engine, newest.id).json)
    checks = {
        check["name"]: {
            "uptime": check["uptime"] if check["sufficient"] else None,
            "coverage": check["coverage"],
            "target_met": check["target_met"],
        }
        for check in told["checks"]
    }
    return {"period": told["period"], "checks": checks}


def standings(engine: Engine) -> Sequence[Standing]:
    """How every objective stands."""
    return slo.standing(engine, engine.clock())


def objectives(engine: Engine) -> Sequence[tuple[Standing, Strip | None]]:
    """The same with the strip of each window, declared ones first."""
    now = engine.clock()
    strips = slo.strips(engine, now)
    found = sorted(slo.standing(engine, now), key=lambda one: not one.objective.declared)
    return [(one, strips.get(one.objective.name)) for one in found]


def counts(engine: Engine) -> Mapping[str, Mapping[counters.Labels, int]]:
    return counters.read(engine)


def redis_answers(engine: Engine) -> bool:
    engine.redis.ping()
    return True


def database_is_ready(engine: Engine) -> bool:
    """Reachable, with the tables this version works with."""
    at, wanted = engine.database.revision(), migrating.newest()
    if at != wanted:
        raise StoreUnavailableError(f"the tables are at revision {at}, not {wanted}; run `regrow db upgrade`")
    return True

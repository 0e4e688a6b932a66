"""How long history is kept: of jobs, checks, breakers, levels, recovery, incidents, acts by hand, reports.

Dead letters are none of this: unsettled ones are never deleted, settled ones by a job of their own.
"""

from __future__ import annotations

from datetime import timedelta

from regrow import counted, jobs
from regrow.alerts import service as alerts
from regrow.breakers import history as breakers
from regrow.database.retention import delete_older
from regrow.database.tables import audit, check_changes, check_results
from regrow.dead_letters import sources
from regrow.degradation import service as degradation
from regrow.engine import Engine
from regrow.incidents import service as incidents
from regrow.recovery import service as recovery
from regrow.reports import service as reports
from regrow.requests import store as requests
from regrow.slo import rolling


def prune(engine: Engine) -> dict[str, int]:
    """Delete what is older than it is kept; returns how many rows of each table went."""
    settings, now = engine.settings, engine.clock()
    results_until = now - timedelta(days=settings.health.retention_days)
    changes_until = now - timedelta(days=settings.health.changes_retention_days)
    breakers_until = now - timedelta(days=settings.history.breakers_days)
    audit_until = now - timedelta(days=settings.history.audit_days)
    return {
        "job_runs": jobs.prune(engine, timedelta(days=settings.jobs.retention_days)),
        "check_results": delete_older(engine.database, check_results, check_results.c.at, results_until),
        "check_changes": delete_older(engine.database, check_changes, check_changes.c.at, changes_until),
        "capture_sources": sources.forget_old(engine),
        "breaker_transitions": breakers.prune(engine.database, breakers_until),
        "audit": delete_older(engine.database, audit, audit.c.at, audit_until),
        "degradation_changes": degradation.prune(engine),
        "request_rollups": requests.prune(engine),
        "counted": counted.prune(engine),
        "reports": reports.prune(engine),
        "alerts": alerts.prune(engine),
        "incidents": incidents.prune(engine),
        **recovery.prune(engine),
        **rolling.prune(engine),
    }

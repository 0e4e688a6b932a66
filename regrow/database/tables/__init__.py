"""The tables, as SQLAlchemy Core. Alembic migrations make them; a test holds the two against each other.

Times are UTC with microseconds. Ids that a list is paged by are UUIDv7 text, so that they sort by time.
"""

from __future__ import annotations

from regrow.database.tables.breakers import (
    breaker_overrides,
    breaker_transitions,
    degradation_changes,
    degradation_orders,
)
from regrow.database.tables.health import check_changes, check_results, check_states, maintenance
from regrow.database.tables.incidents import (
    alert_looks,
    alert_notices,
    alert_silences,
    alerts,
    incident_cursors,
    incident_events,
    incident_members,
    incident_subjects,
    incidents,
)
from regrow.database.tables.letters import (
    archived_letters,
    capture_events,
    capture_sources,
    data_keys,
    dead_letter_archives,
    dead_letter_attempts,
    dead_letter_bodies,
    dead_letter_tombstones,
    dead_letters,
    ledger_deltas,
    ledger_totals,
    redrive_paces,
)
from regrow.database.tables.metadata import metadata
from regrow.database.tables.records import audit, counted, counter_marks, job_runs, reports
from regrow.database.tables.recovery import recoveries, recovery_budget, recovery_courses, recovery_events
from regrow.database.tables.slo import (
    SUMS,
    check_pauses,
    request_rollups,
    rolled_checks,
    rollup_progress,
    rollups_day,
    rollups_hour,
    rollups_minute,
    state_spans,
)

__all__ = [
    "SUMS",
    "alert_looks",
    "alert_notices",
    "alert_silences",
    "alerts",
    "archived_letters",
    "audit",
    "breaker_overrides",
    "breaker_transitions",
    "capture_events",
    "capture_sources",
    "check_changes",
    "check_pauses",
    "check_results",
    "check_states",
    "counted",
    "counter_marks",
    "data_keys",
    "dead_letter_archives",
    "dead_letter_attempts",
    "dead_letter_bodies",
    "dead_letter_tombstones",
    "dead_letters",
    "degradation_changes",
    "degradation_orders",
    "incident_cursors",
    "incident_events",
    "incident_members",
    "incident_subjects",
    "incidents",
    "job_runs",
    "ledger_deltas",
    "ledger_totals",
    "maintenance",
    "metadata",
    "recoveries",
    "recovery_budget",
    "recovery_courses",
    "recovery_events",
    "redrive_paces",
    "reports",
    "request_rollups",
    "rolled_checks",
    "rollup_progress",
    "rollups_day",
    "rollups_hour",
    "rollups_minute",
    "state_spans",
]

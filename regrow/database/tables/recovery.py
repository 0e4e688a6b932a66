"""Recovery: courses, attempts, the budget, events."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, String, Table, Text

from regrow.database.columns import RowId, UtcDateTime, key
from regrow.database.tables.metadata import metadata

recovery_courses = Table(
    "recovery_courses",
    metadata,
    Column("service", key(190), primary_key=True),
    Column("opening", key(255), comment="what names its failure; null: it is not known to be down"),
    Column("opened_at", UtcDateTime),
    Column("trigger", key(64), nullable=False, comment="breaker or check"),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False, comment="begun for this opening"),
    Column("next_at", UtcDateTime, comment="none before this"),
    Column("locked_at", UtcDateTime, comment="since when a person is wanted"),
    Column("recovered_at", UtcDateTime, comment="when it came back last"),
    Column("ordered_by", String(255), comment="who wants the handler run now"),
    Column("ordered_reason", Text),
    Column("ordered_at", UtcDateTime),
    Column("token", key(36), comment="the fence: the end of an attempt must carry it"),
    Column("owner", String(255)),
    Column("lease_until", UtcDateTime),
    Column("by_hand", Integer, nullable=False),
)

recoveries = Table(
    "recoveries",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("service", key(190), nullable=False),
    Column("opening", key(255), comment="null: ordered while nothing was known to be down"),
    Column("attempt", Integer, nullable=False, comment="0: by hand, or a test that passed"),
    Column("kind", key(64), nullable=False, comment="of the handler; test: a test that passed"),
    Column("trigger", key(64), nullable=False, comment="breaker, check, test or hand"),
    Column("actor", String(255)),
    Column("reason", Text, nullable=False),
    Column("owner", String(255), nullable=False),
    Column("failed_at", UtcDateTime, comment="when the failure began, as far as known"),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("outcome", key(64), comment="succeeded, failed, lost, skipped or dry_run; null: under way"),
    Column("message", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Index(None, "service", "started_at"),
    Index(None, "started_at"),
)

recovery_budget = Table(
    "recovery_budget",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("exhausted_at", UtcDateTime, comment="when it last refused a handler"),
)

recovery_events = Table(
    "recovery_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("subject", key(190), nullable=False, comment="a service; of early warnings a check or breaker"),
    Column("event", key(64), nullable=False, comment="locked, unlocked, recovered, storm or early_warning"),
    Column("severity", key(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "at"),
    Index(None, "subject", "event", "at"),
)

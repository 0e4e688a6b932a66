"""Runs of jobs, acts of people, reports, and what was counted."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint

from regrow.database.columns import LongText, RowId, UtcDateTime, key
from regrow.database.tables.metadata import metadata

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("job", key(64), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("duration", Float, nullable=False, comment="seconds"),
    Column("outcome", key(64), nullable=False, comment="succeeded, partial, failed or skipped"),
    Column("summary", JSON, nullable=False),
    Column("host", String(255), nullable=False),
    Index(None, "job", "started_at"),
    Index(None, "started_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("act", key(64), nullable=False),
    Column("subject", key(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Index(None, "at"),
    Index(None, "subject"),
)

reports = Table(
    "reports",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("kind", key(64), nullable=False),
    Column("period_start", UtcDateTime, nullable=False),
    Column("period_end", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("digest", key(64), nullable=False, comment="SHA-256 of the JSON text"),
    Column("headline", Text, nullable=False),
    Column("json", LongText, nullable=False),
    Column("markdown", LongText, nullable=False),
    Column("html", LongText, nullable=False),
    Index(None, "kind", "period_end"),
    Index(None, "created_at"),
)

counted = Table(
    "counted",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("seconds", Integer, nullable=False, comment="60 or 3600"),
    Column("name", key(64), nullable=False, comment="empty: milliseconds in which somebody looked"),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("label", key(190), nullable=False),
    Column("amount", BigInteger, nullable=False),
    UniqueConstraint("seconds", "name", "starts_at", "label"),
    Index(None, "starts_at"),
)

counter_marks = Table(
    "counter_marks",
    metadata,
    Column("name", key(64), primary_key=True, comment="empty: when the last look was, in milliseconds"),
    Column("label", key(190), primary_key=True),
    Column("value", BigInteger, nullable=False, comment="of the counter at the last look"),
)

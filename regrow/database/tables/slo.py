"""Where the time of checks went, and what requests amount to."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint

from regrow.database.columns import RowId, UtcDateTime, key
from regrow.database.tables.metadata import metadata


def _sums(name: str, spent: type[Integer]) -> Table:
    """Where the time of a bucket went, in microseconds, and what its probes found; rows are overwritten."""
    return Table(
        name,
        metadata,
        Column("check_name", key(190), primary_key=True),
        Column("at", UtcDateTime, primary_key=True),
        *(Column(state, spent, nullable=False) for state in SUMS),
        Column("probes", Integer, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("latency", Text, nullable=False, comment="counts by bucket of those that were up"),
        Column("amended_at", UtcDateTime, comment="when late results changed it after it was closed"),
    )


SUMS = (
    "up",
    "degraded",
    "down",
    "unknown",
    "maintenance",
    "paused",
    "masked_up",
    "masked_degraded",
    "masked_down",
)
"""Microseconds; the last three are parts of ``maintenance``, ``degraded`` is a part of ``up``."""

state_spans = Table(
    "state_spans",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("starts_at", UtcDateTime, primary_key=True),
    Column("ends_at", UtcDateTime, nullable=False, comment="exclusive; no span goes over midnight UTC"),
    Column("state", key(64), nullable=False),
    Column("beneath", key(64), comment="in maintenance: what the probes found"),
)

rollups_minute = _sums("rollups_minute", Integer)

rollups_hour = _sums("rollups_hour", BigInteger)

rollups_day = _sums("rollups_day", BigInteger)

rolled_checks = Table(
    "rolled_checks",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("first_at", UtcDateTime, nullable=False, comment="of its first result ever; paused before"),
)

check_pauses = Table(
    "check_pauses",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("starts_at", UtcDateTime, primary_key=True),
    Column("ends_at", UtcDateTime, comment="null: it is still switched off"),
)

rollup_progress = Table(
    "rollup_progress",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seen_id", BigInteger, nullable=False, comment="results up to this id were looked at"),
    Column("next_id", BigInteger, nullable=False, comment="the last id at next_at"),
    Column("next_at", UtcDateTime, nullable=False),
    Column("minutes_until", UtcDateTime, nullable=False),
    Column("hours_until", UtcDateTime, nullable=False),
)

request_rollups = Table(
    "request_rollups",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("seconds", Integer, nullable=False, comment="60 or 3600"),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("service", key(190), nullable=False),
    Column("route", key(190), nullable=False, comment="the breaker of its path; empty without one"),
    Column("count", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("heard", Integer, nullable=False, comment="minutes in which the service was heard of"),
    Column("buckets", Text, nullable=False, comment="durations, in buckets 4% wide"),
    UniqueConstraint("seconds", "starts_at", "service", "route"),
    Index(None, "service", "seconds", "starts_at"),
)

"""Checks: results, states, changes, maintenance."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, String, Table, Text, UniqueConstraint

from regrow.database.columns import RowId, UtcDateTime, key
from regrow.database.tables.metadata import metadata

check_results = Table(
    "check_results",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("check_name", key(190), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("status", key(64), nullable=False),
    Column("latency", Float, nullable=False, comment="seconds"),
    Column("interval", Float, nullable=False, comment="seconds the check was due after this result"),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("maintenance", key(190), comment="the window it fell into"),
    UniqueConstraint("check_name", "at"),
    Index(None, "at"),
)

check_states = Table(
    "check_states",
    metadata,
    Column("check_name", key(190), primary_key=True),
    Column("status", key(64), nullable=False, comment="confirmed"),
    Column("flapping", Boolean, nullable=False),
    Column("since", UtcDateTime, nullable=False, comment="when the status was confirmed"),
    Column("at", UtcDateTime, nullable=False, comment="of the last result that is in it"),
    Column("number", BigInteger, nullable=False, comment="changes told so far"),
    Column("maintenance", key(190), comment="the window that the last result fell into"),
    Column("memory", JSON, nullable=False, comment="what the next result is judged by"),
)

check_changes = Table(
    "check_changes",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("check_name", key(190), nullable=False),
    Column("number", BigInteger, nullable=False, comment="1, 2, ... of this check"),
    Column("kind", key(64), nullable=False, comment="status, flapping, steady or maintenance_over"),
    Column("from_status", key(64), nullable=False),
    Column("to_status", key(64), nullable=False),
    Column("at", UtcDateTime, nullable=False, comment="of the result that confirmed it"),
    Column("began_at", UtcDateTime, nullable=False, comment="of the first result that said so"),
    Column("flapping", Boolean, nullable=False),
    Column("cause", key(190), comment="the check it is down because of, as far as known then"),
    Column("maintenance", key(190), comment="the window it fell into: nobody is to be called"),
    Column("message", Text, nullable=False),
    UniqueConstraint("check_name", "number"),
    Index(None, "at"),
)

maintenance = Table(
    "maintenance",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("kind", key(64), nullable=False, comment="planned or emergency"),
    Column("scope", JSON, nullable=False, comment="checks and labels; neither: everything"),
    Column("starts_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False, comment="exclusive; moved forward when it is ended"),
    Column("announced_at", UtcDateTime, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_by", String(255), comment="who ended it before its time"),
    Index(None, "ends_at"),
)

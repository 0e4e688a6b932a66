"""History of breakers and levels, and the orders that people gave."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, String, Table, Text, UniqueConstraint

from regrow.database.columns import RowId, UtcDateTime, key
from regrow.database.tables.metadata import metadata

breaker_transitions = Table(
    "breaker_transitions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("breaker", key(190), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("from_state", key(64), nullable=False),
    Column("to_state", key(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(255)),
    Column("at", UtcDateTime, nullable=False),
    Column("details", JSON, nullable=False),
    UniqueConstraint("breaker", "epoch"),
    Index(None, "at"),
)

breaker_overrides = Table(
    "breaker_overrides",
    metadata,
    Column("breaker", key(190), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("kind", key(64), comment="forced_open, disabled or metrics_only; null: reset, nothing stands"),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, comment="null: until someone resets the breaker"),
)

degradation_changes = Table(
    "degradation_changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False, comment="until when the monitor confirmed the level"),
    Column("old_level", key(64), comment="null: the first that was told"),
    Column("new_level", key(64), nullable=False),
    Column("automatic", key(64), nullable=False, comment="the level that the score alone led to"),
    Column("reason", Text, nullable=False),
    Column("actor", String(255)),
    Column("score_low", Float, nullable=False),
    Column("score_high", Float, nullable=False),
    Index(None, "at"),
)

degradation_orders = Table(
    "degradation_orders",
    metadata,
    Column("scope", key(64), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("level", key(64), comment="null: the score decides"),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, comment="null: until someone clears it"),
)

"""Incidents, and who is told of them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from regrow.database.columns import RowId, UtcDateTime, key
from regrow.database.tables.metadata import metadata

incidents = Table(
    "incidents",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("root", key(210), nullable=False, comment="the subject that failed of itself"),
    Column("kind", key(64), nullable=False),
    Column("severity", key(64), nullable=False),
    Column("status", key(64), nullable=False, comment="open, closed or merged"),
    Column("title", Text, nullable=False),
    Column("began_at", UtcDateTime, nullable=False, comment="of the first bad raw result"),
    Column("detected_at", UtcDateTime, nullable=False, comment="when it was confirmed"),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(255)),
    Column("resolved_at", UtcDateTime, comment="of the first good raw result of the last in it"),
    Column("closed_by", String(255), comment="null: it ended by itself"),
    Column("root_cause", Text),
    Column("merged_into", key(36)),
    Column("reopened", Integer, nullable=False, comment="how often it went on after its end"),
    Index(None, "status", "resolved_at"),
    Index(None, "began_at"),
)

incident_events = Table(
    "incident_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("incident", key(36), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", key(64), nullable=False),
    Column("subject", key(210), nullable=False),
    Column("message", Text, nullable=False),
    Column("actor", String(255)),
    Column("data", JSON, nullable=False),
    Column("source", key(255), nullable=False, comment="what it tells of, once an incident"),
    UniqueConstraint("incident", "source"),
    Index(None, "incident", "at"),
)

incident_members = Table(
    "incident_members",
    metadata,
    Column("incident", key(36), primary_key=True),
    Column("subject", key(210), primary_key=True),
    Column("severity", key(64), nullable=False),
    Column("state", key(64), nullable=False),
    Column("cause", key(210)),
    Column("joined_at", UtcDateTime, nullable=False),
    Column("down_since", UtcDateTime, comment="null: it is not down"),
    Column("down_seconds", Float, nullable=False, comment="of the times that are over"),
    Column("ended_at", UtcDateTime),
)

incident_subjects = Table(
    "incident_subjects",
    metadata,
    Column("subject", key(210), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="of the last fact that was followed"),
    Column("state", key(64), nullable=False),
    Column("began", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("severity", key(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("cause", key(210)),
    Column("maintenance", key(190)),
    Column("incident", key(36), comment="the open one that it is in"),
)

incident_cursors = Table(
    "incident_cursors",
    metadata,
    Column("source", key(64), primary_key=True),
    Column("position", BigInteger, nullable=False, comment="the highest id of its rows that was followed"),
    Column("heard_at", UtcDateTime, comment="of the newest result of any check"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("rule", key(64), nullable=False),
    Column("subject", key(255), nullable=False),
    Column("open_key", key(64), comment="a digest of both, until it is over and will not come again"),
    Column("severity", key(64), nullable=False),
    Column("status", key(64), nullable=False, comment="pending, firing or resolved"),
    Column("message", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False, comment="since when it is so"),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("group", key(255), nullable=False, comment="what is told together"),
    Column("incident", key(36)),
    Column("fired_at", UtcDateTime),
    Column("resolved_at", UtcDateTime),
    Column("fine_since", UtcDateTime),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(255)),
    Column("paged_at", UtcDateTime, comment="when the escalation that runs began"),
    Column("notified_at", UtcDateTime),
    Column("episode", Integer, nullable=False, comment="how often an escalation began"),
    Column("step", Integer, nullable=False, comment="the last one that was told; -1: none"),
    Column("flapping", Boolean, nullable=False),
    Column("held_by", Text, comment="why nobody is told now"),
    Column("reached", JSON, nullable=False, comment="channels that were told"),
    Column("reasons", JSON, nullable=False, comment="of the last look, step by step"),
    UniqueConstraint("open_key"),
    Index(None, "status", "resolved_at"),
    Index(None, "since"),
)

alert_notices = Table(
    "alert_notices",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("alert", key(36), nullable=False),
    Column("step", key(64), nullable=False),
    Column("channel", key(64), nullable=False),
    Column("kind", key(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("body", JSON, nullable=False),
    Column("status", key(64), nullable=False, comment="waiting, sent or refused"),
    Column("due_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_token", key(36), comment="the fence: who settles it must carry it"),
    Column("lease_until", UtcDateTime),
    Column("settled_at", UtcDateTime),
    Column("error", Text),
    UniqueConstraint("alert", "step", "channel"),
    Index(None, "status", "channel", "id"),
    Index(None, "at"),
)

alert_silences = Table(
    "alert_silences",
    metadata,
    Column("id", key(36), primary_key=True),
    Column("starts", UtcDateTime, nullable=False),
    Column("ends", UtcDateTime, nullable=False, comment="exclusive; moved forward when it is lifted"),
    Column("rule", key(64), nullable=False, comment="a pattern; empty: any"),
    Column("subject", key(255), nullable=False, comment="a pattern; empty: any"),
    Column("severity", key(64)),
    Column("actor", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "ends"),
)

alert_looks = Table(
    "alert_looks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, comment="of the last look; whoever looks holds this row"),
)

"""Incidents: what failed, their timelines, who is in them, how far events were followed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import RowId, UtcDateTime, key

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TABLES = ("incidents", "incident_events", "incident_members", "incident_subjects", "incident_cursors")


def upgrade() -> None:
    steps.create_table(
        "incidents",
        sa.Column("id", key(36), nullable=False),
        sa.Column("root", key(210), nullable=False, comment="the subject that failed of itself"),
        sa.Column("kind", key(64), nullable=False),
        sa.Column("severity", key(64), nullable=False),
        sa.Column("status", key(64), nullable=False, comment="open, closed or merged"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("began_at", UtcDateTime(), nullable=False, comment="of the first bad raw result"),
        sa.Column("detected_at", UtcDateTime(), nullable=False, comment="when it was confirmed"),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=255), nullable=True),
        sa.Column(
            "resolved_at",
            UtcDateTime(),
            nullable=True,
            comment="of the first good raw result of the last in it",
        ),
        sa.Column("closed_by", sa.String(length=255), nullable=True, comment="null: it ended by itself"),
        sa.Column("root_cause", sa.Text(), nullable=True),
        sa.Column("merged_into", key(36), nullable=True),
        sa.Column("reopened", sa.Integer(), nullable=False, comment="how often it went on after its end"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    steps.create_index("incidents", ["status", "resolved_at"])
    steps.create_index("incidents", ["began_at"])
    steps.create_table(
        "incident_events",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("incident", key(36), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("kind", key(64), nullable=False),
        sa.Column("subject", key(210), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("source", key(255), nullable=False, comment="what it tells of, once an incident"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident_events")),
        sa.UniqueConstraint("incident", "source", name=op.f("uq_incident_events_incident_source")),
    )
    steps.create_index("incident_events", ["incident", "at"])
    steps.create_table(
        "incident_members",
        sa.Column("incident", key(36), nullable=False),
        sa.Column("subject", key(210), nullable=False),
        sa.Column("severity", key(64), nullable=False),
        sa.Column("state", key(64), nullable=False),
        sa.Column("cause", key(210), nullable=True),
        sa.Column("joined_at", UtcDateTime(), nullable=False),
        sa.Column("down_since", UtcDateTime(), nullable=True, comment="null: it is not down"),
        sa.Column("down_seconds", sa.Float(), nullable=False, comment="of the times that are over"),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("incident", "subject", name=op.f("pk_incident_members")),
    )
    steps.create_table(
        "incident_subjects",
        sa.Column("subject", key(210), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="of the last fact that was followed"),
        sa.Column("state", key(64), nullable=False),
        sa.Column("began", UtcDateTime(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("severity", key(64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("cause", key(210), nullable=True),
        sa.Column("maintenance", key(190), nullable=True),
        sa.Column("incident", key(36), nullable=True, comment="the open one that it is in"),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_incident_subjects")),
    )
    steps.create_table(
        "incident_cursors",
        sa.Column("source", key(64), nullable=False),
        sa.Column(
            "position",
            sa.BigInteger(),
            nullable=False,
            comment="the highest id of its rows that was followed",
        ),
        sa.Column("heard_at", UtcDateTime(), nullable=True, comment="of the newest result of any check"),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_incident_cursors")),
    )


def downgrade() -> None:
    for name in _TABLES:
        steps.drop_table(name)

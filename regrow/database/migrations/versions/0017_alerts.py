"""Alerts: what fires, what is to be told, silences, the last look"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import RowId, UtcDateTime, key

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TABLES = ("alerts", "alert_notices", "alert_silences", "alert_looks")


def upgrade() -> None:
    steps.create_table(
        "alerts",
        sa.Column("id", key(36), nullable=False),
        sa.Column("rule", key(64), nullable=False),
        sa.Column("subject", key(255), nullable=False),
        sa.Column(
            "open_key",
            key(64),
            nullable=True,
            comment="a digest of both, until it is over and will not come again",
        ),
        sa.Column("severity", key(64), nullable=False),
        sa.Column("status", key(64), nullable=False, comment="pending, firing or resolved"),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False, comment="since when it is so"),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("group", key(255), nullable=False, comment="what is told together"),
        sa.Column("incident", key(36), nullable=True),
        sa.Column("fired_at", UtcDateTime(), nullable=True),
        sa.Column("resolved_at", UtcDateTime(), nullable=True),
        sa.Column("fine_since", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=255), nullable=True),
        sa.Column("paged_at", UtcDateTime(), nullable=True, comment="when the escalation that runs began"),
        sa.Column("notified_at", UtcDateTime(), nullable=True),
        sa.Column("episode", sa.Integer(), nullable=False, comment="how often an escalation began"),
        sa.Column("step", sa.Integer(), nullable=False, comment="the last one that was told; -1: none"),
        sa.Column("flapping", sa.Boolean(), nullable=False),
        sa.Column("held_by", sa.Text(), nullable=True, comment="why nobody is told now"),
        sa.Column("reached", sa.JSON(), nullable=False, comment="channels that were told"),
        sa.Column("reasons", sa.JSON(), nullable=False, comment="of the last look, step by step"),
        sa.UniqueConstraint("open_key", name=op.f("uq_alerts_open_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    steps.create_index("alerts", ["status", "resolved_at"])
    steps.create_index("alerts", ["since"])
    steps.create_table(
        "alert_notices",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("alert", key(36), nullable=False),
        sa.Column("step", key(64), nullable=False),
        sa.Column("channel", key(64), nullable=False),
        sa.Column("kind", key(64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("status", key(64), nullable=False, comment="waiting, sent or refused"),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", key(36), nullable=True, comment="the fence: who settles it must carry it"),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("settled_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.UniqueConstraint("alert", "step", "channel", name=op.f("uq_alert_notices_alert_step_channel")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_notices")),
    )
    steps.create_index("alert_notices", ["status", "channel", "id"])
    steps.create_index("alert_notices", ["at"])
    steps.create_table(
        "alert_silences",
        sa.Column("id", key(36), nullable=False),
        sa.Column("starts", UtcDateTime(), nullable=False),
        sa.Column(
            "ends", UtcDateTime(), nullable=False, comment="exclusive; moved forward when it is lifted"
        ),
        sa.Column("rule", key(64), nullable=False, comment="a pattern; empty: any"),
        sa.Column("subject", key(255), nullable=False, comment="a pattern; empty: any"),
        sa.Column("severity", key(64), nullable=True),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_silences")),
    )
    steps.create_index("alert_silences", ["ends"])
    steps.create_table(
        "alert_looks",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "at", UtcDateTime(), nullable=True, comment="of the last look; whoever looks holds this row"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_looks")),
    )


def downgrade() -> None:
    for name in _TABLES:
        steps.drop_table(name)

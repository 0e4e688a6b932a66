"""The degradation level: its changes, and the last order that a person gave"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import UtcDateTime, key

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "degradation_changes",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column(
            "seen_at", UtcDateTime(), nullable=False, comment="until when the monitor confirmed the level"
        ),
        sa.Column("old_level", key(64), nullable=True, comment="null: the first that was told"),
        sa.Column("new_level", key(64), nullable=False),
        sa.Column("automatic", key(64), nullable=False, comment="the level that the score alone led to"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("score_low", sa.Float(), nullable=False),
        sa.Column("score_high", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_degradation_changes")),
    )
    steps.create_index("degradation_changes", ["at"])
    steps.create_table(
        "degradation_orders",
        sa.Column("scope", key(64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("level", key(64), nullable=True, comment="null: the score decides"),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=True, comment="null: until someone clears it"),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_degradation_orders")),
    )


def downgrade() -> None:
    steps.drop_table("degradation_orders")
    steps.drop_table("degradation_changes")

"""The last order that a person gave a breaker"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import UtcDateTime, key

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "breaker_overrides",
        sa.Column("breaker", key(190), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column(
            "kind",
            key(64),
            nullable=True,
            comment="forced_open, disabled or metrics_only; null: reset, nothing stands",
        ),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=True, comment="null: until someone resets the breaker"),
        sa.PrimaryKeyConstraint("breaker", name=op.f("pk_breaker_overrides")),
    )


def downgrade() -> None:
    steps.drop_table("breaker_overrides")

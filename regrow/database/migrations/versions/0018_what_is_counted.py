"""What is counted for the metrics, by minute and by hour"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import RowId, UtcDateTime, key

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "counted",
        sa.Column("id", RowId, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False, comment="60 or 3600"),
        sa.Column("name", key(64), nullable=False, comment="empty: milliseconds in which somebody looked"),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column("label", key(190), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counted")),
        sa.UniqueConstraint(
            "seconds",
            "name",
            "starts_at",
            "label",
            name=op.f("uq_counted_seconds_name_starts_at_label"),
        ),
    )
    steps.create_index("counted", ["starts_at"])
    steps.create_table(
        "counter_marks",
        sa.Column("name", key(64), nullable=False, comment="empty: when the last look was, in milliseconds"),
        sa.Column("label", key(190), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False, comment="of the counter at the last look"),
        sa.PrimaryKeyConstraint("name", "label", name=op.f("pk_counter_marks")),
    )


def downgrade() -> None:
    for name in ("counted", "counter_marks"):
        steps.drop_table(name)

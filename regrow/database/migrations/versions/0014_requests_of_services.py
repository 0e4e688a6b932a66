"""What the requests of each service amount to, by minute and by hour"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import RowId, UtcDateTime, key

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "request_rollups",
        sa.Column("id", RowId, primary_key=True, autoincrement=True, nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False, comment="60 or 3600"),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column("service", key(190), nullable=False),
        sa.Column("route", key(190), nullable=False, comment="the breaker of its path; empty without one"),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("heard", sa.Integer(), nullable=False, comment="minutes in which the service was heard of"),
        sa.Column("buckets", sa.Text(), nullable=False, comment="durations, in buckets 4% wide"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_rollups")),
        sa.UniqueConstraint(
            "seconds",
            "starts_at",
            "service",
            "route",
            name=op.f("uq_request_rollups_seconds_starts_at_service_route"),
        ),
    )
    steps.create_index("request_rollups", ["service", "seconds", "starts_at"])


def downgrade() -> None:
    steps.drop_table("request_rollups")

"""Spans and sums of what checks found"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import UtcDateTime, key

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_SUMS = (
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


def upgrade() -> None:
    steps.create_table(
        "state_spans",
        sa.Column("check_name", key(190), nullable=False),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column(
            "ends_at", UtcDateTime(), nullable=False, comment="exclusive; no span goes over midnight UTC"
        ),
        sa.Column("state", key(64), nullable=False),
        sa.Column("beneath", key(64), nullable=True, comment="in maintenance: what the probes found"),
        sa.PrimaryKeyConstraint("check_name", "starts_at", name=op.f("pk_state_spans")),
    )
    _sums("rollups_minute", sa.Integer())
    _sums("rollups_hour", sa.BigInteger())
    _sums("rollups_day", sa.BigInteger())
    steps.create_table(
        "rolled_checks",
        sa.Column("check_name", key(190), nullable=False),
        sa.Column(
            "first_at", UtcDateTime(), nullable=False, comment="of its first result ever; paused before"
        ),
        sa.PrimaryKeyConstraint("check_name", name=op.f("pk_rolled_checks")),
    )
    steps.create_table(
        "check_pauses",
        sa.Column("check_name", key(190), nullable=False),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=True, comment="null: it is still switched off"),
        sa.PrimaryKeyConstraint("check_name", "starts_at", name=op.f("pk_check_pauses")),
    )
    steps.create_table(
        "rollup_progress",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seen_id", sa.BigInteger(), nullable=False, comment="results up to this id were looked at"),
        sa.Column("next_id", sa.BigInteger(), nullable=False, comment="the last id at next_at"),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("minutes_until", UtcDateTime(), nullable=False),
        sa.Column("hours_until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_progress")),
    )


def _sums(name: str, spent: sa.types.TypeEngine[int]) -> None:
    steps.create_table(
        name,
        sa.Column("check_name", key(190), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        *(sa.Column(state, spent, nullable=False) for state in _SUMS),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("latency", sa.Text(), nullable=False, comment="counts by bucket of those that were up"),
        sa.Column(
            "amended_at",
            UtcDateTime(),
            nullable=True,
            comment="when late results changed it after it was closed",
        ),
        sa.PrimaryKeyConstraint("check_name", "at", name=op.f(f"pk_{name}")),
    )


def downgrade() -> None:
    for name in (
        "rollup_progress",
        "check_pauses",
        "rolled_checks",
        "rollups_day",
        "rollups_hour",
        "rollups_minute",
        "state_spans",
    ):
        steps.drop_table(name)

"""Recovery: the course of each service, every attempt, events, the fleet's budget"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import RowId, UtcDateTime, key

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLES = ("recovery_courses", "recoveries", "recovery_budget", "recovery_events")
_INDEXES = (
    ("recoveries", ("service", "started_at")),
    ("recoveries", ("started_at",)),
    ("recovery_events", ("at",)),
    ("recovery_events", ("subject", "event", "at")),
)


def upgrade() -> None:
    for make in (_courses, _recoveries, _budget, _events):
        make()
    for table, columns in _INDEXES:
        steps.create_index(table, columns)


def _courses() -> None:
    steps.create_table(
        "recovery_courses",
        sa.Column("service", key(190), nullable=False),
        sa.Column(
            "opening",
            key(255),
            nullable=True,
            comment="what names its failure; null: it is not known to be down",
        ),
        sa.Column("opened_at", UtcDateTime(), nullable=True),
        sa.Column("trigger", key(64), nullable=False, comment="breaker or check"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="begun for this opening"),
        sa.Column("next_at", UtcDateTime(), nullable=True, comment="none before this"),
        sa.Column("locked_at", UtcDateTime(), nullable=True, comment="since when a person is wanted"),
        sa.Column("recovered_at", UtcDateTime(), nullable=True, comment="when it came back last"),
        sa.Column(
            "ordered_by", sa.String(length=255), nullable=True, comment="who wants the handler run now"
        ),
        sa.Column("ordered_reason", sa.Text(), nullable=True),
        sa.Column("ordered_at", UtcDateTime(), nullable=True),
        sa.Column("token", key(36), nullable=True, comment="the fence: the end of an attempt must carry it"),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("by_hand", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("service", name=op.f("pk_recovery_courses")),
    )


def _recoveries() -> None:
    steps.create_table(
        "recoveries",
        sa.Column("id", key(36), nullable=False),
        sa.Column("service", key(190), nullable=False),
        sa.Column(
            "opening", key(255), nullable=True, comment="null: ordered while nothing was known to be down"
        ),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="0: by hand, or a test that passed"),
        sa.Column("kind", key(64), nullable=False, comment="of the handler; test: a test that passed"),
        sa.Column("trigger", key(64), nullable=False, comment="breaker, check, test or hand"),
        sa.Column("actor", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column(
            "failed_at", UtcDateTime(), nullable=True, comment="when the failure began, as far as known"
        ),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column(
            "outcome",
            key(64),
            nullable=True,
            comment="succeeded, failed, lost, skipped or dry_run; null: under way",
        ),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recoveries")),
    )


def _budget() -> None:
    steps.create_table(
        "recovery_budget",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("exhausted_at", UtcDateTime(), nullable=True, comment="when it last refused a handler"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_budget")),
    )


def _events() -> None:
    steps.create_table(
        "recovery_events",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column(
            "subject",
            key(190),
            nullable=False,
            comment="a service; of early warnings a check or breaker",
        ),
        sa.Column(
            "event",
            key(64),
            nullable=False,
            comment="locked, unlocked, recovered, storm or early_warning",
        ),
        sa.Column("severity", key(64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_events")),
    )


def downgrade() -> None:
    for name in _TABLES:
        steps.drop_table(name)

"""Redrive: classes, order and pace"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import UtcDateTime, key

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LETTERS: tuple[Callable[[], sa.Column[Any]], ...] = (
    lambda: sa.Column("failure_class", key(64), nullable=False, server_default="unknown"),
    lambda: sa.Column(
        "priority", key(64), nullable=False, server_default="normal", comment="high, normal or low"
    ),
    lambda: sa.Column(
        "rank",
        UtcDateTime(),
        nullable=True,
        comment="its place in its service's queue; null: it waits behind another",
    ),
    lambda: sa.Column(
        "waits", sa.Integer(), nullable=False, server_default="0", comment="failures in a row at no cost"
    ),
    lambda: sa.Column(
        "losses", sa.Integer(), nullable=False, server_default="0", comment="workers that died while it ran"
    ),
    lambda: sa.Column("useful_until", UtcDateTime(), nullable=True, comment="not sent any more after this"),
    lambda: sa.Column(
        "order_key", key(190), nullable=True, comment="one of a key at a time, in the order of capture"
    ),
    lambda: sa.Column(
        "inflight_key", key(190), nullable=True, comment="its order key while it is leased or dispatched"
    ),
)
_ATTEMPTS: tuple[Callable[[], sa.Column[Any]], ...] = (
    lambda: sa.Column(
        "service",
        key(190),
        nullable=True,
        comment="the letter's",
    ),
    lambda: sa.Column("failure_class", key(64), nullable=True),
)
# A unique index, no constraint: SQLite adds that to a new copy of the table alone, and dropping the old one
# would take bodies and attempts with it.
_INDEXES = (
    ["service", "inflight_key"],
    ["service", "state", "rank", "id"],
    ["service", "order_key", "id"],
    ["state", "useful_until"],
)


def upgrade() -> None:
    for column in _LETTERS:
        steps.add_column("dead_letters", column())
    # Letters of the version before stand where they stood: by their due time.
    letters = sa.table("dead_letters", *map(sa.column, ("id", "rank", "due_at", "order_key")))
    waiting = sa.and_(letters.c.rank.is_(None), letters.c.order_key.is_(None))
    steps.update_all(letters, letters.c.id, waiting, {"rank": letters.c.due_at})
    for columns in _INDEXES:
        steps.create_index("dead_letters", columns, unique="inflight_key" in columns)
    steps.drop_index("dead_letters", ["state", "due_at", "id"])

    for column in _ATTEMPTS:
        steps.add_column("dead_letter_attempts", column())
    steps.create_index("dead_letter_attempts", ["service", "ended_at"])

    steps.create_table(
        "redrive_paces",
        sa.Column("service", key(190), nullable=False),
        sa.Column(
            "rate",
            sa.Float(),
            nullable=False,
            comment="letters a second that the service bears, as far as seen",
        ),
        sa.Column("tokens", sa.Float(), nullable=False, comment="letters that may go now"),
        sa.Column("filled_at", UtcDateTime(), nullable=False),
        sa.Column(
            "looked_at", UtcDateTime(), nullable=False, comment="outcomes up to here have been counted"
        ),
        sa.Column(
            "latency", sa.Float(), nullable=True, comment="seconds from dispatch to success in quiet times"
        ),
        sa.Column(
            "resumed_at",
            UtcDateTime(),
            nullable=True,
            comment="when its breaker closed; null while it is not closed",
        ),
        sa.Column("canary_at", UtcDateTime(), nullable=True, comment="when the last canary left"),
        sa.PrimaryKeyConstraint("service", name=op.f("pk_redrive_paces")),
    )


def downgrade() -> None:
    steps.drop_table("redrive_paces")
    steps.drop_index("dead_letter_attempts", ["service", "ended_at"])
    for column in reversed(_ATTEMPTS):
        steps.drop_column("dead_letter_attempts", column().name)
    steps.create_index("dead_letters", ["state", "due_at", "id"])
    for columns in _INDEXES:
        steps.drop_index("dead_letters", columns)
    for column in reversed(_LETTERS):
        steps.drop_column("dead_letters", column().name)

"""Redrive: classes, order and pace"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

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
    ("ix_dead_letters_service_inflight_key", ["service", "inflight_key"]),
    ("ix_dead_letters_service_state_rank_id", ["service", "state", "rank", "id"]),
    ("ix_dead_letters_service_order_key_id", ["service", "order_key", "id"]),
    ("ix_dead_letters_state_useful_until", ["state", "useful_until"]),
)


def upgrade() -> None:
    for column in _LETTERS:
        op.add_column("dead_letters", column())
    # Letters of the version before stand where they stood: by their due time.
    letters = sa.table("dead_letters", sa.column("rank"), sa.column("due_at"))
    op.execute(letters.update().values(rank=letters.c.due_at))
    for name, columns in _INDEXES:
        op.create_index(op.f(name), "dead_letters", columns, unique="inflight_key" in columns)
    op.drop_index(op.f("ix_dead_letters_state_due_at_id"), table_name="dead_letters")

    for column in _ATTEMPTS:
        op.add_column("dead_letter_attempts", column())
    op.create_index(
        op.f("ix_dead_letter_attempts_service_ended_at"), "dead_letter_attempts", ["service", "ended_at"]
    )

    op.create_table(
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
    op.drop_table("redrive_paces")
    op.drop_index(op.f("ix_dead_letter_attempts_service_ended_at"), table_name="dead_letter_attempts")
    for column in reversed(_ATTEMPTS):
        op.drop_column("dead_letter_attempts", column().name)
    op.create_index(op.f("ix_dead_letters_state_due_at_id"), "dead_letters", ["state", "due_at", "id"])
    for name, _ in _INDEXES:
        op.drop_index(op.f(name), table_name="dead_letters")
    for column in reversed(_LETTERS):
        op.drop_column("dead_letters", column().name)

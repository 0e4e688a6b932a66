"""Tombstones of purged letters; archives know how much of them was purged"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import UtcDateTime, key

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_OUTCOMES_BEFORE = "succeeded, failed, held, released, expired, no_outcome, superseded"
_OUTCOMES = "how it ended: an AttemptOutcome; null: not heard of yet"


def upgrade() -> None:
    steps.create_table(
        "dead_letter_tombstones",
        sa.Column("letter_id", key(36), nullable=False),
        sa.Column("idempotency_key", key(190), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", key(64), nullable=True),
        sa.Column("subject", key(80), nullable=False),
        sa.Column("purged_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("letter_id", name=op.f("pk_dead_letter_tombstones")),
    )
    steps.create_index("dead_letter_tombstones", ["idempotency_key", "generation"])
    steps.create_index("dead_letter_tombstones", ["purged_at"])
    purged = sa.Column(
        "purged", sa.Integer(), nullable=False, server_default="0", comment="letters deleted so far"
    )
    steps.add_column("dead_letter_archives", purged)
    steps.add_column("dead_letter_archives", sa.Column("given_up_at", UtcDateTime(), nullable=True))
    archives = sa.table("dead_letter_archives", *map(sa.column, ("id", "letters", "purged", "purged_at")))
    done = sa.and_(archives.c.purged_at.is_not(None), archives.c.purged != archives.c.letters)
    steps.update_all(archives, archives.c.id, done, {"purged": archives.c.letters})
    _bury()
    steps.comment("dead_letter_attempts", "outcome", key(64), _OUTCOMES)


def _bury() -> None:
    """Letters that were purged before, as far as their events tell: when they went nobody knows any more, so
    they are remembered from now on."""
    events = sa.table("capture_events", sa.column("letter_id"))
    letters = sa.table("dead_letters", sa.column("id"))
    names = ("letter_id", "generation", "subject", "purged_at")
    tombstones = sa.table("dead_letter_tombstones", *map(sa.column, names))
    purged = sa.and_(
        ~sa.exists().where(letters.c.id == events.c.letter_id),
        ~sa.exists().where(tombstones.c.letter_id == events.c.letter_id),
    )
    now = sa.literal(datetime.now(UTC), UtcDateTime())
    for ids in steps.in_chunks(events.c.letter_id, purged):
        row = sa.select(events.c.letter_id, sa.literal(1), sa.literal(""), now)
        missing = row.where(events.c.letter_id.in_(ids)).distinct()
        op.execute(sa.insert(tombstones).from_select(names, missing))


def downgrade() -> None:
    steps.comment("dead_letter_attempts", "outcome", key(64), _OUTCOMES_BEFORE)
    steps.drop_column("dead_letter_archives", "given_up_at")
    steps.drop_column("dead_letter_archives", "purged")
    steps.drop_table("dead_letter_tombstones")

"""Archives of settled letters, and which letter is in which"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import UtcDateTime, key

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "dead_letter_archives",
        sa.Column("id", key(36), nullable=False),
        sa.Column("file", sa.String(length=255), nullable=False),
        sa.Column("letters", sa.Integer(), nullable=False),
        sa.Column("sha256", key(64), nullable=False),
        sa.Column("first_settled_at", UtcDateTime(), nullable=False),
        sa.Column("last_settled_at", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("purged_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter_archives")),
    )
    steps.create_index("dead_letter_archives", ["purged_at"])
    steps.create_table(
        "archived_letters",
        sa.Column("letter_id", key(36), nullable=False),
        sa.Column("archive_id", key(36), nullable=False),
        sa.PrimaryKeyConstraint("letter_id", name=op.f("pk_archived_letters")),
    )
    steps.create_index("archived_letters", ["archive_id"])


def downgrade() -> None:
    steps.drop_table("archived_letters")
    steps.drop_table("dead_letter_archives")

"""Which entries of each app's spool have been received"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import UtcDateTime, key

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "capture_sources",
        sa.Column("source", key(64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column(
            "watermark",
            sa.BigInteger(),
            nullable=False,
            comment="all entries up to this number are received",
        ),
        sa.Column("beyond", sa.JSON(), nullable=False, comment="ranges received beyond it"),
        sa.Column(
            "lost", sa.BigInteger(), nullable=False, comment="entries damaged on the disk of their app"
        ),
        sa.Column("gap_since", UtcDateTime(), nullable=True),
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_capture_sources")),
    )
    steps.create_index("capture_sources", ["gap_since"])
    steps.create_index("capture_sources", ["last_seen_at"])


def downgrade() -> None:
    steps.drop_table("capture_sources")

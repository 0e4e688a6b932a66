"""What letters say can be sealed; letters of before stay as they are"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import Blob, UtcDateTime, key

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "data_keys",
        sa.Column("id", key(36), nullable=False),
        sa.Column("service", key(190), nullable=False),
        sa.Column("subject", key(80), nullable=False),
        sa.Column("key_id", key(64), nullable=False),
        sa.Column("wrapped", Blob, nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("erased_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_keys")),
    )
    steps.create_index("data_keys", ["service", "subject"])
    steps.create_index("data_keys", ["subject"])
    steps.add_column("dead_letters", sa.Column("data_key", key(36), nullable=True))
    steps.add_column("dead_letters", sa.Column("subject", key(80), nullable=False, server_default=""))
    steps.add_column("dead_letters", sa.Column("digest", key(80), nullable=True))
    steps.add_column("dead_letters", sa.Column("erased_at", UtcDateTime(), nullable=True))
    steps.create_index("dead_letters", ["subject"])
    steps.add_column("dead_letter_attempts", sa.Column("data_key", key(36), nullable=True))


def downgrade() -> None:
    steps.drop_column("dead_letter_attempts", "data_key")
    steps.drop_index("dead_letters", ["subject"])
    for name in ("erased_at", "digest", "subject", "data_key"):
        steps.drop_column("dead_letters", name)
    steps.drop_table("data_keys")

"""What letters say can be sealed; letters of before stay as they are"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database.columns import Blob, UtcDateTime, key

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
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
    op.create_index(op.f("ix_data_keys_service_subject"), "data_keys", ["service", "subject"])
    op.create_index(op.f("ix_data_keys_subject"), "data_keys", ["subject"])
    op.add_column("dead_letters", sa.Column("data_key", key(36), nullable=True))
    op.add_column("dead_letters", sa.Column("subject", key(80), nullable=False, server_default=""))
    op.add_column("dead_letters", sa.Column("digest", key(80), nullable=True))
    op.add_column("dead_letters", sa.Column("erased_at", UtcDateTime(), nullable=True))
    op.create_index(op.f("ix_dead_letters_subject"), "dead_letters", ["subject"])
    op.add_column("dead_letter_attempts", sa.Column("data_key", key(36), nullable=True))


def downgrade() -> None:
    op.drop_column("dead_letter_attempts", "data_key")
    op.drop_index(op.f("ix_dead_letters_subject"), "dead_letters")
    for name in ("erased_at", "digest", "subject", "data_key"):
        op.drop_column("dead_letters", name)
    op.drop_table("data_keys")

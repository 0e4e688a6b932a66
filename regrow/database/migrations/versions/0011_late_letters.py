"""How often a late letter was waited for, and how many redriving workers died with one in hand"""

from __future__ import annotations

import sqlalchemy as sa

from regrow.database import steps

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("dead_letter_attempts", sa.Column("holds", sa.Integer(), nullable=False, server_default="0")),
    ("dead_letter_attempts", sa.Column("held_for", sa.String(255), nullable=True)),
    ("dead_letters", sa.Column("crashes", sa.Integer(), nullable=False, server_default="0")),
)


def upgrade() -> None:
    for table, column in _COLUMNS:
        steps.add_column(table, column)


def downgrade() -> None:
    for table, column in reversed(_COLUMNS):
        steps.drop_column(table, column.name)

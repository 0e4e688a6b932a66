"""What a check's results amount to, its changes, and maintenance windows"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import RowId, UtcDateTime, key

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    steps.create_table(
        "check_states",
        sa.Column("check_name", key(190), nullable=False),
        sa.Column("status", key(64), nullable=False, comment="confirmed"),
        sa.Column("flapping", sa.Boolean(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False, comment="when the status was confirmed"),
        sa.Column("at", UtcDateTime(), nullable=False, comment="of the last result that is in it"),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="changes told so far"),
        sa.Column(
            "maintenance", key(190), nullable=True, comment="the window that the last result fell into"
        ),
        sa.Column("memory", sa.JSON(), nullable=False, comment="what the next result is judged by"),
        sa.PrimaryKeyConstraint("check_name", name=op.f("pk_check_states")),
    )
    steps.create_table(
        "check_changes",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("check_name", key(190), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="1, 2, ... of this check"),
        sa.Column("kind", key(64), nullable=False, comment="status, flapping, steady or maintenance_over"),
        sa.Column("from_status", key(64), nullable=False),
        sa.Column("to_status", key(64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False, comment="of the result that confirmed it"),
        sa.Column("began_at", UtcDateTime(), nullable=False, comment="of the first result that said so"),
        sa.Column("flapping", sa.Boolean(), nullable=False),
        sa.Column(
            "cause", key(190), nullable=True, comment="the check it is down because of, as far as known then"
        ),
        sa.Column(
            "maintenance", key(190), nullable=True, comment="the window it fell into: nobody is to be called"
        ),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_check_changes")),
        sa.UniqueConstraint("check_name", "number", name=op.f("uq_check_changes_check_name_number")),
    )
    steps.create_index("check_changes", ["at"])
    steps.create_table(
        "maintenance",
        sa.Column("id", key(36), nullable=False),
        sa.Column("kind", key(64), nullable=False, comment="planned or emergency"),
        sa.Column("scope", sa.JSON(), nullable=False, comment="checks and labels; neither: everything"),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column(
            "ends_at", UtcDateTime(), nullable=False, comment="exclusive; moved forward when it is ended"
        ),
        sa.Column("announced_at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ended_by", sa.String(length=255), nullable=True, comment="who ended it before its time"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance")),
    )
    steps.create_index("maintenance", ["ends_at"])
    steps.add_column(
        "check_results", sa.Column("maintenance", key(190), nullable=True, comment="the window it fell into")
    )


def downgrade() -> None:
    steps.drop_column("check_results", "maintenance")
    for table in ("maintenance", "check_changes", "check_states"):
        steps.drop_table(table)

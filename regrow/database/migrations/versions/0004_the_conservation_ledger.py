"""The conservation ledger, opened on the letters that are there"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from regrow.database import steps
from regrow.database.columns import RowId, UtcDateTime, key

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_AMOUNTS = ("accepted", "resolved", "discarded", "purged")


def upgrade() -> None:
    steps.create_table(
        "ledger_deltas",
        sa.Column("id", RowId, autoincrement=True, nullable=False),
        sa.Column("service", key(190), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _AMOUNTS),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_deltas")),
    )
    steps.create_table(
        "ledger_totals",
        sa.Column("service", key(190), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _AMOUNTS),
        sa.Column("opened_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("service", name=op.f("pk_ledger_totals")),
    )
    # What was purged before this day nobody has counted: opened_at says from when on the books are whole.
    letters = sa.table("dead_letters", sa.column("service"), sa.column("state"))
    held = sa.select(
        letters.c.service,
        sa.func.count(),
        *(
            sa.func.sum(sa.case((letters.c.state == state, 1), else_=0))
            for state in ("resolved", "discarded")
        ),
        sa.literal(0),
        sa.literal(datetime.now(UTC), UtcDateTime()),
    ).group_by(letters.c.service)
    # Whoever runs this again opens the books again: nobody has written into them yet.
    totals = sa.table("ledger_totals", *map(sa.column, ("service", *_AMOUNTS, "opened_at")))
    op.execute(sa.delete(totals))
    op.execute(sa.insert(totals).from_select(["service", *_AMOUNTS, "opened_at"], held))


def downgrade() -> None:
    steps.drop_table("ledger_totals")
    steps.drop_table("ledger_deltas")

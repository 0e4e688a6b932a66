"""Where a dead letter came from: exchange, routing key, broker, trace, code version, deliveries"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from regrow.database.columns import key

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Letters of before have none of these; all may be empty.
_COLUMNS: dict[str, Any] = {
    "exchange": key(255),
    "routing_key": key(255),
    "broker": key(190),
    "correlation_id": key(255),
    "traceparent": key(64),
    "code_version": key(190),
    "deliveries": sa.Integer(),
}


def upgrade() -> None:
    for name, kind in _COLUMNS.items():
        op.add_column("dead_letters", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    # Not in a batch: on SQLite that makes the table anew, and what hangs on its rows goes with the old one.
    for name in _COLUMNS:
        op.drop_column("dead_letters", name)

"""Where a dead letter came from: exchange, routing key, broker, trace, code version, deliveries"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from regrow.database import steps
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
        steps.add_column("dead_letters", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name in _COLUMNS:
        steps.drop_column("dead_letters", name)

"""Indexes for lists by state and by message type; two fewer are written at every step of a letter"""

from __future__ import annotations

from regrow.database import steps

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_BEFORE = (["state", "lease_until"], ["state", "deadline"])
_AFTER = (["state", "id"], ["message_type", "id"], ["deadline"])


def upgrade() -> None:
    for columns in _AFTER:
        steps.create_index("dead_letters", columns)
    for columns in _BEFORE:
        steps.drop_index("dead_letters", columns)


def downgrade() -> None:
    for columns in _BEFORE:
        steps.create_index("dead_letters", columns)
    for columns in _AFTER:
        steps.drop_index("dead_letters", columns)

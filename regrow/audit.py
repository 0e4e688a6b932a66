"""Who did what by hand, when and why. Written in the transaction of the act itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow.database.tables import audit


@dataclass(frozen=True)
class Act:
    """An act by hand, written down in the transaction that does it."""

    actor: str
    act: str
    subject: str
    reason: str
    at: datetime


def keep(connection: sa.Connection, act: Act) -> None:
    """One row for it."""
    write(connection, at=act.at, actor=act.actor, act=act.act, subject=act.subject, reason=act.reason)


def write(
    connection: sa.Connection,
    *,
    at: datetime,
    actor: str,
    act: str,
    subject: str,
    reason: str,
    details: dict[str, Any] | None = None,
) -> None:
    """One row; ``details`` are JSON values."""
    connection.execute(
        sa.insert(audit).values(
            at=at, actor=actor, act=act, subject=subject, reason=reason, details=details or {}
        )
    )

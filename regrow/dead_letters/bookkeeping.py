"""Keeping the ledger: folding what was booked, comparing it with the letters, and correcting it by hand."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
import structlog

from regrow import audit
from regrow.dead_letters import ledger
from regrow.dead_letters.ledger import Entry, Ledger
from regrow.engine import Engine
from regrow.errors import TransitionRefusedError

logger = structlog.get_logger(__name__)

_CHUNK = 2_000


def read_ledger(engine: Engine) -> Ledger:
    """Books and letters of every service, at one moment."""
    with engine.database.snapshot() as connection:
        return ledger.read(connection)


def fold_ledger(engine: Engine) -> dict[str, Any]:
    """Fold the deltas into the totals, then compare the books with the letters.

    Returns the counts and ``unbalanced``: the services whose books and letters differ, and by how much.
    Any number may run at once.
    """
    folded = 0
    while went := engine.database.run(lambda connection: ledger.fold(connection, _CHUNK)):
        folded += went
    found = read_ledger(engine)
    for account in found.unbalanced:
        logger.error("ledger.unbalanced", service=account.service, **account.differences)
    total = found.total()
    return {
        "folded": folded,
        "accepted": total.booked.accepted,
        "live": total.live,
        "resolved": total.resolved,
        "discarded": total.discarded,
        "purged": total.booked.purged,
        "unbalanced": {account.service: account.differences for account in found.unbalanced},
    }


def correct_ledger(engine: Engine, *, actor: str, reason: str) -> Ledger:
    """Book every difference, so that the books say what is there; returns what they said before. Audited.

    For after a rolling upgrade or a repair by hand, when letters came or went past the books.
    TransitionRefusedError without a reason.
    """
    if not reason.strip():
        raise TransitionRefusedError(
            "to correct the ledger needs a reason; say how the difference came about"
        )

    def work(connection: sa.Connection) -> Ledger:
        # What is written beside us balances in itself, so the differences hold whenever they are booked.
        found = ledger.read(connection)
        for account in found.unbalanced:
            off = account.differences
            resolved, discarded = -off.get("resolved", 0), -off.get("discarded", 0)
            entry = Entry(
                accepted=resolved + discarded - off.get("live", 0), resolved=resolved, discarded=discarded
            )
            ledger.add(connection, {account.service: entry})
            audit.write(
                connection,
                at=engine.clock(),
                actor=actor,
                act="ledger.correct",
                subject=account.service,
                reason=reason,
                details=account.differences,
            )
        return found

    return engine.database.run(work)

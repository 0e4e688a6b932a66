"""How long settled letters are kept. Unsettled ones are kept for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from regrow.dead_letters import store
from regrow.engine import Engine
from regrow.errors import TransitionRefusedError


def cleanup(engine: Engine, max_age_days: int | None = None) -> dict[str, Any]:
    """Purge letters settled more than ``max_age_days`` ago. Unsettled ones are never deleted."""
    days = engine.settings.dead_letters.max_age_days if max_age_days is None else max_age_days
    if days < 0:
        raise TransitionRefusedError(f"max_age_days = {days}: say 0 or more.")
    before = engine.clock() - timedelta(days=days)
    purged = 0
    while went := engine.database.run(lambda connection: store.purge_settled(connection, before, 500)):
        purged += went
    return {"purged": purged, "older_than_days": days}

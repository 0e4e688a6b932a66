"""Keeping what a sweep found: results at once in Redis, then all of it in the database, then states in Redis.

Either store may be away. Without the database, Redis keeps the states and, for later, the changes; without
Redis, the database has it all. With both away the results are lost, and the states are what they were: the
next results lead to the same changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health import rules
from regrow.health.causes import Graph
from regrow.health.following import Flapping, follow_all, newest_of
from regrow.health.rules import Result
from regrow.health.states import KeptStates, LiveStates, change_from_json
from regrow.health.status import Change, State
from regrow.health.store import LiveResults

logger = structlog.get_logger(__name__)


@dataclass
class Kept:
    """What became of a batch: the changes it made, and the stores that would not have it, with reasons."""

    changes: list[Change] = field(default_factory=list)
    not_written: dict[str, str] = field(default_factory=dict)


def keep(engine: Engine, results: Sequence[Result], graph: Graph) -> Kept:
    """Keep a batch of results and what follows from them; never raises for an absent store."""
    kept = Kept()
    health = engine.settings.health
    flapping = Flapping(health.flapping_from, health.flapping_until)
    try:
        # Redis first: it is quick to say no, and the page reads it.
        live_results(engine).write(results)
        live = LiveStates(engine.redis)
        known, waiting = live.read(), live.untold()
    except StoreUnavailableError as error:
        _refused(kept, "redis", error, results)
        live, known, waiting = None, _of_database(engine), []
    earlier = [change for text in waiting if (change := change_from_json(text)) is not None]

    def fold(locked: dict[str, State]) -> tuple[list[State], list[Change]]:
        return follow_all(results, newest_of(known, locked), graph, flapping)

    try:
        states, kept.changes = KeptStates(engine.database).write(results, fold, earlier)
        has_all = True
    except StoreUnavailableError as error:
        _refused(kept, "database", error, results)
        states, kept.changes = fold({})
        has_all = False
    if live is None:
        return kept
    try:
        if has_all:
            live.write(states)
            live.told(waiting)
        else:
            live.write_untold(states, kept.changes)
    except StoreUnavailableError as error:
        _refused(kept, "redis", error, results)
    return kept


def live_results(engine: Engine) -> LiveResults:
    """The last results, in this engine's Redis."""
    health = engine.settings.health
    return LiveResults(engine.redis, health.history_size, keep=86_400.0 * health.retention_days)


def forget_undeclared(engine: Engine, graph: Graph) -> None:
    """Drop from Redis what checks left that are gone for as long as results are kept. Never raises.

    A check that is only out for a while, or not yet known to this worker, keeps what it has.
    """
    before = engine.clock() - timedelta(days=engine.settings.health.retention_days)
    try:
        live_results(engine).forget(graph, before)
        LiveStates(engine.redis).forget(graph, before)
    except StoreUnavailableError:
        return  # the next minute does it


def _of_database(engine: Engine) -> dict[str, State]:
    try:
        return KeptStates(engine.database).read()
    except StoreUnavailableError:
        return {}


def _refused(kept: Kept, store: str, error: StoreUnavailableError, results: Sequence[Result]) -> None:
    kept.not_written[store] = rules.without_secrets(str(error))
    logger.warning("check.not_written", store=store, results=len(results), error=kept.not_written[store])

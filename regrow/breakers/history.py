"""The history of breakers: what :func:`monitor` moves from Redis into the table ``breaker_transitions``.

Redis keeps the last transitions of every breaker, each with the epoch before it. The table is its own
cursor: what is newer than its newest epoch is written, once, because (breaker, epoch) is unique; so two
monitors at once, or one that died in the middle, do no harm. A transition whose predecessor is missing is
marked, because Redis forgot something: unknown is not shown as complete.

The same look keeps the orders that people gave, and puts back one that Redis forgot (``overrides``).
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from regrow import counters
from regrow.breakers.declared import differing, table_for
from regrow.breakers.events import log_transitions
from regrow.breakers.overrides import LastOrder, keep, kept_orders, restored_by, told_by
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import Look, Transition
from regrow.breakers.status import BreakerStatus, moment, own_name, own_statuses, status_of
from regrow.breakers.store import BreakerStore, Outcome
from regrow.database import Database
from regrow.database.inserting import insert_new
from regrow.database.retention import delete_older
from regrow.database.tables import breaker_transitions as table
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.settings.models import BreakerSettings

logger = logging.getLogger("regrow.breakers")


@dataclass(frozen=True)
class PastTransition:
    """A transition as the history keeps it. ``details``: the counts behind it, ``gap`` if one is missing."""

    breaker: str
    epoch: int
    from_state: str
    to_state: str
    reason: str
    actor: str | None
    at: datetime
    details: dict[str, Any]


def monitor(engine: Engine) -> dict[str, Any]:
    """Read every breaker of the fleet, write its new transitions, move idle open ones on; what was found.

    An open breaker whose time is over while nobody calls is recorded as half-open: its next caller is the
    probe. Nothing is closed without one. An override that Redis forgot is put back for the rest of its time,
    and what ``regrow.toml`` declares is told to the fleet.
    StoreUnavailableError when Redis or the database is away; of a cluster that lost a node, the breakers that
    it keeps are ``unreachable`` and wait for the next run.
    """
    database, store = engine.database, RedisStore(engine.patient_redis)
    counts: Counter[str] = Counter()
    seen: list[BreakerStatus] = []
    used = set(store.names())
    with database.snapshot() as connection:
        kept = kept_orders(connection)
    tables = engine.settings.breakers
    names = sorted(used | kept.keys() | (tables.keys() - {"default"}))
    newest = _newest_epochs(database, names)
    unreachable: list[str] = []
    lost: set[str] = set()
    for name in names:
        node = store.shard(name)
        if node in lost:
            unreachable.append(name)
            continue
        try:
            found = _look(store, name, newest.get(name), kept.get(name))
        except StoreUnavailableError as error:
            if not node:  # not one of several
                raise
            logger.warning("breakers.node_away", extra={"node": node, "error": str(error)})
            lost.add(node)
            unreachable.append(name)
            continue
        if name in kept and (restored := _restored(database, store, name, found)) is not None:
            counts["restored"] += 1
            found = replace(found, outcome=restored, stream=store.transitions(name))
        counts["declared"] += _declare(store, name, found.outcome, table_for(name, tables))
        status = status_of(name, found.outcome)
        counts["moved_on"] += found.moved_on
        if status is not None:
            seen += [status, *own_statuses(name, found.outcome)]
        elif name in used:
            store.forget(name)
            counts["forgotten"] += 1
        written, gaps = _write(engine, name, found, newest.get(name), kept.get(name))
        counts["written"] += written
        counts["gaps"] += gaps
    states = Counter(status.state for status in seen)
    return {
        "breakers": len(seen),
        **{state: states[state] for state in ("closed", "open", "half_open")},
        "overridden": sum(status.override is not None for status in seen),
        **{
            what: counts[what]
            for what in ("written", "moved_on", "forgotten", "gaps", "restored", "declared")
        },
        "not_closed": sorted(status.name for status in seen if status.state != "closed"),
        "unreachable": unreachable,
    }


def declare(engine: Engine) -> int:
    """Tell the fleet what ``regrow.toml`` declares, without waiting for the monitor; how much was news.

    StoreUnavailableError when Redis is away.
    """
    store, tables = RedisStore(engine.redis), engine.settings.breakers
    names = {*store.names(), *tables} - {"default"}
    return sum(
        _declare(store, name, store.apply(name, None, Look()), table_for(name, tables))
        for name in sorted(names)
    )


def past(
    database: Database, breaker: str | None = None, *, since: datetime | None = None, limit: int = 100
) -> list[PastTransition]:
    """The newest transitions first, of one breaker or of all."""
    query = sa.select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
    if breaker is not None:
        query = query.where(table.c.breaker == breaker)
    if since is not None:
        query = query.where(table.c.at >= since)
    with database.snapshot() as connection:
        return [
            PastTransition(**{name: row[name] for name in PastTransition.__dataclass_fields__})
            for row in connection.execute(query).mappings()
        ]


def prune(database: Database, before: datetime) -> int:
    """Delete transitions from before that time; how many went.

    The last one of each breaker stays: it is the cursor of :func:`monitor`, and tells what still holds.
    """
    newer = table.alias()
    superseded = sa.exists().where(newer.c.breaker == table.c.breaker, newer.c.epoch > table.c.epoch)
    return delete_older(database, table, table.c.at, before, superseded)


@dataclass(frozen=True)
class _Found:
    """What Redis tells of one breaker. ``stream``: its transitions, as far back as they matter here."""

    outcome: Outcome
    stream: list[Transition]
    moved_on: int


def _look(store: BreakerStore, name: str, newest: int | None, kept: LastOrder | None) -> _Found:
    outcome = store.apply(name, None, Look(advance=True))
    log_transitions(name, outcome.transitions, shared=True)
    # After the look, so that an order given meanwhile is seen here if not there.
    stream = store.transitions(name, 0 if kept else newest or 0)
    return _Found(outcome, stream, len(outcome.transitions))


def _restored(database: Database, store: BreakerStore, name: str, found: _Found) -> Outcome | None:
    """Put an order back that Redis forgot; None when there is nothing to put back, or somebody was faster."""
    breaker, now = found.outcome.breaker, found.outcome.now
    with database.snapshot() as connection:  # read after the look: what was lifted before it is known here
        kept = kept_orders(connection, name).get(name)
    if kept is None or told_by(breaker, found.stream, kept) is not None:
        return None
    command = restored_by(breaker, found.stream, kept, now)
    if command is None:
        return None
    outcome = store.apply(name, None, command)
    if not outcome.accepted:
        return None
    logger.warning(
        "breaker.restored",
        extra={"breaker": name, "order": command.kind, "actor": command.actor, "after_epoch": kept.epoch},
    )
    log_transitions(name, outcome.transitions, shared=True)
    return outcome


def _declare(store: RedisStore, name: str, outcome: Outcome, chosen: BreakerSettings) -> bool:
    """Tell the fleet what is declared, if it does not know; whether it was news."""
    wanted = differing(chosen.model_dump())
    if wanted == (outcome.declared or {}):
        return False
    store.declare(name, wanted)
    logger.info("breaker.declared", extra={"breaker": name, "settings": wanted})
    return True


def _newest_epochs(database: Database, names: list[str]) -> dict[str, int]:
    query = (
        sa.select(table.c.breaker, sa.func.max(table.c.epoch))
        .where(table.c.breaker.in_(names))
        .group_by(table.c.breaker)
    )
    with database.snapshot() as connection:
        return {breaker: int(epoch) for breaker, epoch in connection.execute(query)}


def _write(
    engine: Engine, name: str, found: _Found, known: int | None, kept: LastOrder | None
) -> tuple[int, int]:
    """Write what is not there yet; how many rows were written, and how many of them follow a gap."""
    breaker, stream = found.outcome.breaker, found.stream
    rows = _rows(engine.database, name, stream, known)
    insert = insert_new(table)

    def work(connection: sa.Connection) -> list[dict[str, Any]]:
        order = told_by(breaker, stream, kept_orders(connection, name).get(name))
        if order is not None:
            keep(connection, name, order)
        return [row for row in rows if connection.execute(insert.values(row)).rowcount]

    if not rows and told_by(breaker, stream, kept) is None:
        return 0, 0
    written = engine.database.run(work)
    changes = [row for row in written if row["to_state"] != row["from_state"]]
    counters.add(
        engine,
        "circuit_breaker_transitions_total",
        *({"breaker": row["breaker"], "to": row["to_state"]} for row in changes),
    )
    gaps = [row for row in written if row["details"].get("gap")]
    for row in gaps:
        logger.warning(
            "breakers.history_gap", extra={"breaker": row["breaker"], "before_epoch": row["epoch"]}
        )
    return len(written), len(gaps)


def _rows(database: Database, name: str, stream: list[Transition], known: int | None) -> list[dict[str, Any]]:
    """What is newer than the table has it. A host's own changes are kept as those of ``NAME@HOST``."""
    chains = {own_name(name, told.reporter) for told in stream if told.reporter}
    last: dict[str, int | None] = {name: known}
    if chains:
        last |= _newest_epochs(database, sorted(chains))
    rows = []
    for told in stream:
        chain = own_name(name, told.reporter)
        before = last.get(chain)
        if told.epoch <= (before or 0):
            continue
        # A host that was forgotten begins its chain anew, with no predecessor.
        missing = before is not None and told.previous != before and not (told.reporter and not told.previous)
        rows.append(_row(chain, told, missing=missing))
        last[chain] = told.epoch
    return rows


def _row(name: str, told: Transition, *, missing: bool) -> dict[str, Any]:
    details: dict[str, Any] = {
        "previous": told.previous,
        "successes": told.successes,
        "failures": told.failures,
        "run": told.run,
        "failure_rate": round(told.failure_rate, 4),
    }
    if told.slow:
        details["slow"] = told.slow
    if told.override:
        details["override"] = told.override
    if told.reporter:
        details["reporter"] = told.reporter
    if missing:
        details["gap"] = True
    return {
        "breaker": name,
        "epoch": told.epoch,
        "from_state": told.from_state.value,
        "to_state": told.to_state.value,
        "reason": told.reason,
        "actor": told.actor or None,
        "at": moment(told.at),
        "details": details,
    }

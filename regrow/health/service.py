"""Health as tasks, pages, reports and the command line ask for it.

A sweep claims what is due, probes it, and keeps what it found in Redis and in the database. Either of the two
may be away: the sweep runs, keeps what it can, and says which store does not have it.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

import structlog

from regrow import counters
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health import rules
from regrow.health.causes import in_doubt
from regrow.health.checks import probe_of
from regrow.health.keeping import keep, live_results
from regrow.health.reading import (
    changes,
    declared,
    graph_of,
    history,
    last_results,
    overview,
    prune,
    states,
)
from regrow.health.rules import Declared, Result
from regrow.health.status import Change
from regrow.health.sweep import Sweeper, Task

__all__ = [
    "changes",
    "declared",
    "history",
    "outcome_of",
    "overview",
    "prune",
    "run_due",
    "states",
]

logger = structlog.get_logger(__name__)

Outcome = Literal["succeeded", "partial", "failed"]

_SHARE_OF_TIME = 0.5
"""Of the task's soft time limit: after it no further probe is begun, so that results are written in time."""
_STORES = ("redis", "database")

_sweepers: WeakKeyDictionary[Engine, Sweeper] = WeakKeyDictionary()


def run_due(engine: Engine, *, force: bool = False, own_tick_only: bool = False) -> dict[str, Any]:
    """Probe what is due and keep the results; returns a summary in JSON values.

    ``force`` runs every check, due or not. ``own_tick_only`` takes the checks that the tick of
    ``schedule.health_check_monitoring`` would serve badly, for the shorter tick of ``due_checks``.
    Keys: ``checks`` (how many were to be looked at), ``ran``, how many were ``healthy``, ``degraded``,
    ``unhealthy``, ``unknown``, ``status`` (the verdict over what ran), ``changed`` (names), ``hanging``
    (threads of probes that never came back), ``postponed`` (names that were due and not reached), and
    ``not_written`` (stores, with the reason). :func:`outcome_of` tells what became of the run.
    """
    settings, now = engine.settings, engine.clock()
    graph = graph_of(settings)
    checks = list(graph.values())
    if own_tick_only:
        tick = settings.schedule.health_check_monitoring
        checks = [check for check in checks if rules.needs_own_tick(check.interval, tick)]
    last = last_results(engine, {check.name for check in checks})
    ran_at = {name: result.at for name, result in last.items()}
    chosen = _claimed(engine, checks if force else rules.due(checks, ran_at, now), force=force)
    if doubted := in_doubt(last, graph) - {check.name for check in chosen}:
        chosen += _claimed(engine, [graph[name] for name in sorted(doubted)], force=True)

    tasks = [Task(check, probe_of(settings.health.checks[check.name], settings)) for check in chosen]
    sweeper = _sweeper(engine)
    found: dict[str, Result] = {}
    changed: dict[str, None] = {}
    not_written: dict[str, str] = {}
    budget = _SHARE_OF_TIME * settings.celery.task_soft_time_limit
    for batch in sweeper.sweep(tasks, engine.clock, budget):
        found.update({result.check: result for result in batch})
        kept = keep(engine, batch, graph)
        not_written.update(kept.not_written)
        told = ({"check": result.check, "status": result.status} for result in batch)
        counters.add(engine, "health_check_total", *told)
        for change in kept.changes:
            changed[change.check] = None
            _tell(change)
    postponed = [check.name for check in chosen if check.name not in found]

    views = [rules.view(check, found.get(check.name), engine.clock()) for check in chosen]
    counted = Counter(result.status for result in found.values())
    return {
        "checks": len(checks),
        "ran": len(found),
        **{status: counted[status] for status in rules.STATUSES},
        **({"status": rules.overview(views, now).status} if found else {}),
        "changed": list(changed),
        "hanging": sweeper.hanging,
        "postponed": postponed,
        "not_written": not_written,
    }


def outcome_of(summary: Mapping[str, Any]) -> Outcome:
    """``failed`` when results are kept nowhere, ``partial`` when a store or a check was left out."""
    if len(summary["not_written"]) == len(_STORES):
        return "failed"
    return "partial" if summary["not_written"] or summary["postponed"] else "succeeded"


def _claimed(engine: Engine, checks: list[Declared], *, force: bool) -> list[Declared]:
    """Those that no other worker runs now. Without Redis nobody can say; better twice than not at all."""
    if not checks:
        return []
    spans = {check.name: rules.claim_seconds(check.interval) for check in checks}
    try:
        ours = live_results(engine).claim(spans, f"{socket.gethostname()}:{os.getpid()}", force=force)
    except StoreUnavailableError:
        return checks
    return [check for check in checks if check.name in ours]


_EVENTS = {
    "status": "check.changed",
    "flapping": "check.flapping",
    "steady": "check.steady",
    "maintenance_over": "check.maintenance_over",
}


def _tell(change: Change) -> None:
    log = logger.info if change.to_status == "healthy" and not change.flapping else logger.warning
    log(
        _EVENTS[change.kind],
        name=change.check,
        old_status=change.from_status,
        new_status=change.to_status,
        cause=change.cause,
        maintenance=change.maintenance,
        message=change.message,
    )


def _sweeper(engine: Engine) -> Sweeper:
    if engine not in _sweepers:
        _sweepers[engine] = Sweeper(engine.settings.health.concurrency)
    return _sweepers[engine]

"""Running the checks that are due: claimed, in chunks for all workers to share, probed at once, kept.

Either store may be away: the sweep runs, keeps what it can, and says which store does not have it.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import structlog

from regrow import counters
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health import maintenance, rules, settings_standing
from regrow.health.causes import Graph, in_doubt
from regrow.health.checks import ASYNC, probe_async, probe_of
from regrow.health.keeping import forget_undeclared, keep, live_results
from regrow.health.reading import graph_of, last_results
from regrow.health.rules import Declared, Result
from regrow.health.states import KeptStates
from regrow.health.status import Change
from regrow.health.store import KeptResults
from regrow.health.sweep import Sweeper, Task
from regrow.health.windows import covering

logger = structlog.get_logger(__name__)

Outcome = Literal["succeeded", "partial", "failed"]

CHUNK = "regrow.health.run_chunk"
"""The task that runs a part of a sweep."""
_QUEUE = "regrow.control"
_SHARE_OF_TIME = 0.5
"""Of the task's soft time limit: after it no further probe is begun, so that results are written in time."""
_STORES = ("redis", "database")

_sweepers: WeakKeyDictionary[Engine, Sweeper] = WeakKeyDictionary()


def run_due(engine: Engine, *, force: bool = False) -> dict[str, Any]:
    """Probe what is due and keep the results; returns a summary in JSON values.

    ``force`` runs every check here, due or not. When more checks are due than ``health.chunk_size``, other
    workers are sent their share. Keys: ``checks`` (how many are declared), ``ran`` (here), how many were
    ``healthy``, ``degraded``, ``unhealthy``, ``unknown``, ``status`` (the verdict over what ran), ``changed``
    (names), ``hanging`` (threads of probes that never came back), ``postponed`` (names that were due and not
    reached), ``sent`` (checks that others run), and ``not_written`` (stores, with the reason).
    :func:`outcome_of` tells what became of the run.
    """
    now = engine.clock()
    settings_standing.tell(engine)
    graph = graph_of(engine.settings)
    last = last_results(engine, graph)
    ran_at = {name: result.at for name, result in last.items()}
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    wanted = list(graph.values()) if force else rules.due(graph.values(), ran_at, now)
    chosen = _claimed(engine, wanted, owner, force=force)
    if doubted := in_doubt(last, graph) - {check.name for check in chosen}:
        chosen += _taken_over(engine, {name: graph[name] for name in doubted}, last, owner)
    ours = rules.longest_first(chosen, last)
    sent = 0
    if not force:
        ours, sent = _shared(engine, ours, owner)
    return {**_swept(engine, ours, graph), "sent": sent}


def run_chunk(engine: Engine, names: Sequence[str], owner: str) -> dict[str, Any]:
    """Probe the part of a sweep that was sent here, as far as its claims still hold; as :func:`run_due`.

    A chunk that comes too late finds its checks claimed by somebody else, or by nobody, and leaves them.
    """
    graph = graph_of(engine.settings)
    try:
        ours = live_results(engine).held(names, owner)
    except StoreUnavailableError:
        ours = set()  # the next tick runs them, wherever it is
    return _swept(engine, [graph[name] for name in names if name in ours and name in graph], graph)


def run_of_minute(engine: Engine) -> dict[str, Any]:
    """Run what is due, and tell what all checks found since the last time, by whichever worker."""
    since = engine.clock() - timedelta(seconds=engine.settings.schedule.health_check_monitoring)
    summary = run_due(engine)
    forget_undeclared(engine, graph_of(engine.settings))
    try:
        counted = KeptResults(engine.database).counted(since)
        changed = KeptStates(engine.database).changes(since=since, limit=1000)
    except StoreUnavailableError:
        return summary
    names = dict.fromkeys([*summary["changed"], *(kept.change.check for kept in changed)])
    found: dict[str, int] = {status: counted.get(status, 0) for status in rules.STATUSES}
    return {**summary, "ran": sum(found.values()), **found, "changed": list(names)}


def outcome_of(summary: Mapping[str, Any]) -> Outcome:
    """``failed`` when results are kept nowhere, ``partial`` when a store or a check was left out."""
    if len(summary["not_written"]) == len(_STORES):
        return "failed"
    return "partial" if summary["not_written"] or summary["postponed"] else "succeeded"


def _swept(engine: Engine, chosen: Sequence[Declared], graph: Graph) -> dict[str, Any]:
    """Probe these, keep what was found batch by batch, and sum it up."""
    settings = engine.settings
    sweeper = _sweeper(engine)
    found: dict[str, Result] = {}
    changed: dict[str, None] = {}
    not_written: dict[str, str] = {}
    windows = maintenance.around(engine, engine.clock()) if chosen else []
    budget = _SHARE_OF_TIME * settings.celery.task_soft_time_limit
    for batch in sweeper.sweep(_tasks(engine, chosen), engine.clock, budget):
        marked = [
            replace(result, maintenance=covering(windows, graph[result.check], result.at)) for result in batch
        ]
        found.update({result.check: result for result in marked})
        kept = keep(engine, marked, graph)
        not_written.update(kept.not_written)
        told = ({"check": result.check, "status": result.status} for result in batch)
        counters.add(engine, "health_check_total", *told)
        for change in kept.changes:
            changed[change.check] = None
            _tell(change)
    now = engine.clock()
    views = [rules.view(check, found.get(check.name), now) for check in chosen]
    counted = Counter(result.status for result in found.values())
    return {
        "checks": len(graph),
        "ran": len(found),
        **{status: counted[status] for status in rules.STATUSES},
        **({"status": rules.overview(views, now).status} if found else {}),
        "changed": list(changed),
        "hanging": sweeper.hanging,
        "postponed": [check.name for check in chosen if check.name not in found],
        "not_written": not_written,
    }


def _tasks(engine: Engine, chosen: Iterable[Declared]) -> list[Task]:
    settings = engine.settings
    declared = settings.health.checks
    return [
        Task(check, awaits=partial(probe_async, declared[check.name], settings))
        if check.kind in ASYNC
        else Task(check, probe_of(declared[check.name], settings))
        for check in chosen
    ]


def _claimed(engine: Engine, checks: list[Declared], owner: str, *, force: bool) -> list[Declared]:
    """Those that no other worker runs now. Without Redis nobody can say; better twice than not at all."""
    if not checks:
        return []
    spans = {check.name: rules.claim_seconds(check.interval) for check in checks}
    try:
        ours = live_results(engine).claim(spans, owner, force=force)
    except StoreUnavailableError:
        return checks
    return [check for check in checks if check.name in ours]


def _taken_over(engine: Engine, doubted: Graph, last: Mapping[str, Result], owner: str) -> list[Declared]:
    """Those in doubt that nobody looks at this moment: their claims are of runs that are over.

    Without Redis nobody can say, and they are looked at here.
    """
    now = engine.clock()
    spans = {name: rules.claim_seconds(check.interval) for name, check in doubted.items()}
    ages = {name: (now - last[name].at).total_seconds() for name in doubted}
    try:
        ours = live_results(engine).take_over(spans, ages, owner)
    except StoreUnavailableError:
        ours = set(doubted)
    return [doubted[name] for name in sorted(ours)]


def _shared(engine: Engine, chosen: list[Declared], owner: str) -> tuple[list[Declared], int]:
    """What this process runs itself, and how many checks it sent to others."""
    first, *others = rules.chunks(chosen, engine.settings.health.chunk_size)
    ours, sent = list(first), 0
    for chunk in others:
        names = [check.name for check in chunk]
        try:
            engine.sender.send(CHUNK, {"names": names, "owner": owner}, queue=_QUEUE)
            sent += len(chunk)
        except StoreUnavailableError as error:
            logger.warning("check.not_shared", checks=len(chunk), error=str(error))
            ours += chunk
    return ours, sent


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
    concurrency = engine.settings.health.concurrency
    sweeper = _sweepers.setdefault(engine, Sweeper(concurrency))
    sweeper.concurrency = concurrency  # it may have been changed in regrow.toml
    return sweeper

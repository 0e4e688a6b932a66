"""Health as tasks, pages, reports and the command line ask for it.

A sweep claims what is due, probes it, and keeps what it found in Redis and in the database. Either of the two
may be away: the sweep runs, keeps what it can, and says which store does not have it.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal
from weakref import WeakKeyDictionary

import structlog

from regrow import counters
from regrow.engine import Engine
from regrow.errors import CheckNotFoundError, StoreUnavailableError
from regrow.health import rules
from regrow.health.checks import probe_of
from regrow.health.rules import CheckView, Declared, Overview, Result
from regrow.health.store import KeptResults, LiveResults
from regrow.health.sweep import Sweeper, Task
from regrow.settings import Settings

logger = structlog.get_logger(__name__)

Outcome = Literal["succeeded", "partial", "failed"]

_SHARE_OF_TIME = 0.5
"""Of the task's soft time limit: after it no further probe is begun, so that results are written in time."""

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
    checks = declared(settings)
    if own_tick_only:
        tick = settings.schedule.health_check_monitoring
        checks = [check for check in checks if rules.needs_own_tick(check.interval, tick)]
    last = _last_results(engine, {check.name for check in checks})
    shown_before = {check.name: rules.view(check, last.get(check.name), now).status for check in checks}
    ran_at = {name: result.at for name, result in last.items()}
    chosen = _claimed(engine, checks if force else rules.due(checks, ran_at, now), force=force)

    tasks = [Task(check, probe_of(settings.health.checks[check.name], settings)) for check in chosen]
    sweeper = _sweeper(engine)
    found: dict[str, Result] = {}
    not_written: dict[str, str] = {}
    budget = _SHARE_OF_TIME * settings.celery.task_soft_time_limit
    for batch in sweeper.sweep(tasks, engine.clock, budget):
        found.update({result.check: result for result in batch})
        not_written.update(_write(engine, batch))
        told = ({"check": result.check, "status": result.status} for result in batch)
        counters.add(engine, "health_check_total", *told)
    postponed = [check.name for check in chosen if check.name not in found]

    changed = [name for name, result in found.items() if result.status != shown_before[name]]
    for name in changed:
        _tell_change(name, shown_before[name], found[name])
    views = [rules.view(check, found.get(check.name), engine.clock()) for check in chosen]
    counted = Counter(result.status for result in found.values())
    return {
        "checks": len(checks),
        "ran": len(found),
        **{status: counted[status] for status in rules.STATUSES},
        **({"status": rules.overview(views, now).status} if found else {}),
        "changed": changed,
        "hanging": sweeper.hanging,
        "postponed": postponed,
        "not_written": not_written,
    }


def outcome_of(summary: Mapping[str, Any]) -> Outcome:
    """``failed`` when results are kept nowhere, ``partial`` when a store or a check was left out."""
    if len(summary["not_written"]) == len(_STORES):
        return "failed"
    return "partial" if summary["not_written"] or summary["postponed"] else "succeeded"


def overview(engine: Engine) -> Overview:
    """All declared, enabled checks as they stand now, and the verdict. Runs no check.

    Redis is asked first; what it has not, or not lately, the database. With both away everything is unknown.
    """
    now = engine.clock()
    checks = declared(engine.settings)
    last, silent = _known(engine, checks, now)
    views: list[CheckView] = [rules.view(check, last.get(check.name), now) for check in checks]
    found = rules.overview(views, now)
    if silent and found.status == "unknown":
        said = rules.without_secrets("; ".join(silent))
        return Overview(found.status, said, now, found.checks)
    return found


def history(engine: Engine, name: str, limit: int | None = None) -> list[Result]:
    """The last results of one check, the newest first, at most ``health.history_size`` of them.

    Raises CheckNotFoundError for a check that is not declared, StoreUnavailableError when neither store
    answers.
    """
    if name not in engine.settings.health.checks:
        raise CheckNotFoundError(f"no health check is named {name!r}")
    limit = min(limit or engine.settings.health.history_size, engine.settings.health.history_size)
    try:
        if found := _live(engine).history(name, limit):
            return found
    except StoreUnavailableError:
        pass
    return KeptResults(engine.database).history(name, limit)


def prune(engine: Engine, keep: timedelta | None = None) -> int:
    """Delete results older than ``keep`` (None: ``health.retention_days``); returns how many."""
    keep = timedelta(days=engine.settings.health.retention_days) if keep is None else keep
    return KeptResults(engine.database).prune(engine.clock() - keep)


def declared(settings: Settings) -> list[Declared]:
    """The enabled checks, as the rules see them."""
    return [
        rules.declare(name, check, settings.health.interval)
        for name, check in settings.health.checks.items()
        if check.enabled
    ]


def _live(engine: Engine) -> LiveResults:
    health = engine.settings.health
    return LiveResults(engine.redis, health.history_size, keep=86_400.0 * health.retention_days)


_STORES: Mapping[str, Callable[[Engine, list[Result]], None]] = {
    # Redis first: it is quick to say no, and the page reads it.
    "redis": lambda engine, results: _live(engine).write(results),
    "database": lambda engine, results: KeptResults(engine.database).write(results),
}


def _write(engine: Engine, results: list[Result]) -> dict[str, str]:
    """Keep results in both stores; returns the stores that would not, with their reasons."""
    refused = {}
    for name, write in _STORES.items():
        try:
            write(engine, results)
        except StoreUnavailableError as error:
            refused[name] = rules.without_secrets(str(error))
            logger.warning("check.not_written", store=name, results=len(results), error=refused[name])
    return refused


def _last_results(engine: Engine, names: Collection[str]) -> dict[str, Result]:
    """The last result of each check, for what is due and what changed: of Redis, else of the database."""
    try:
        live = _live(engine).latest()
    except StoreUnavailableError:
        live = {}
    missing = set(names) - set(live)
    return {**_kept(engine, missing), **live}


def _kept(engine: Engine, names: Collection[str]) -> dict[str, Result]:
    if not names:
        return {}
    try:
        return KeptResults(engine.database).latest(names)
    except StoreUnavailableError:
        return {}


def _known(
    engine: Engine, checks: Collection[Declared], now: datetime
) -> tuple[dict[str, Result], list[str]]:
    """The newest result of each check in either store, and what the stores said that did not answer."""
    silent = []
    live: dict[str, Result] = {}
    try:
        live = _live(engine).latest()
    except StoreUnavailableError as error:
        silent.append(str(error))
    doubtful = [check.name for check in checks if _is_doubtful(check, live.get(check.name), now)]
    if not doubtful:
        return live, silent
    try:
        kept = KeptResults(engine.database).latest(doubtful)
    except StoreUnavailableError as error:
        return live, [*silent, str(error)]
    newer = {name: r for name, r in kept.items() if name not in live or r.at > live[name].at}
    return {**live, **newer}, silent


def _is_doubtful(check: Declared, live: Result | None, now: datetime) -> bool:
    if live is None:
        return True
    return (now - live.at).total_seconds() > rules.stale_after(check.interval, check.timeout)


def _claimed(engine: Engine, checks: list[Declared], *, force: bool) -> list[Declared]:
    """Those that no other worker runs now. Without Redis nobody can say; better twice than not at all."""
    if not checks:
        return []
    spans = {check.name: rules.claim_seconds(check.interval) for check in checks}
    try:
        ours = _live(engine).claim(spans, f"{socket.gethostname()}:{os.getpid()}", force=force)
    except StoreUnavailableError:
        return checks
    return [check for check in checks if check.name in ours]


def _tell_change(name: str, before: str, result: Result) -> None:
    log = logger.info if result.status == "healthy" else logger.warning
    log("check.changed", name=name, old_status=before, new_status=result.status, message=result.message)


def _sweeper(engine: Engine) -> Sweeper:
    if engine not in _sweepers:
        _sweepers[engine] = Sweeper(engine.settings.health.concurrency)
    return _sweepers[engine]

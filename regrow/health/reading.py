"""What is known of the checks: their last results, what these amount to, their changes. Runs no check.

Redis is asked first; what it has not, or not lately, the database.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from regrow.engine import Engine
from regrow.errors import CheckNotFoundError, StoreUnavailableError
from regrow.health import maintenance, rules
from regrow.health.causes import Graph, cause_of
from regrow.health.checks import celery_beat, heartbeats
from regrow.health.following import down_among, newest_of
from regrow.health.keeping import live_results
from regrow.health.rules import Declared, Finding, Overview, Result, Standing
from regrow.health.states import KeptChange, KeptStates, LiveStates
from regrow.health.status import State
from regrow.health.store import KeptResults
from regrow.health.windows import covering
from regrow.settings import Settings


def overview(engine: Engine) -> Overview:
    """All declared, enabled checks as they stand now, and the verdict; runs none of them.

    Beat is looked at here too, by its heartbeat: the check of it has stopped with it. With both stores away
    everything is unknown.
    """
    now = engine.clock()
    graph = graph_of(engine.settings)
    last, silent = _known(engine, graph.values(), now)
    standings = _standings(graph, states(engine, last))
    windows = maintenance.around(engine, now)
    views = [
        rules.view(check, last.get(name), now, standings.get(name), covering(windows, check, now))
        for name, check in graph.items()
    ]
    found = rules.overview(views, now)
    if silent and found.status == "unknown":
        return replace(found, message=rules.without_secrets("; ".join(silent.values())))
    beat = _beat(engine, now, silent.get("redis"))
    return found if beat is None else rules.with_beat(found, beat)


def _beat(engine: Engine, now: datetime, silent: str | None) -> Finding | None:
    """How beat is; None when no check of it is declared. ``silent``: why Redis tells nothing."""
    checks = engine.settings.health.checks.values()
    watched = next((check for check in checks if check.kind == "celery_beat" and check.enabled), None)
    if watched is None:
        return None
    if silent is not None:
        return rules.finding("unknown", silent, verdict="unknown")
    found = heartbeats.asked(
        lambda: heartbeats.of_kind(engine.redis, "beat", now.timestamp()),
        lambda found: celery_beat.verdict(found, watched.max_age),
    )
    return found if "verdict" in found.data else rules.finding(found.status, found.message, verdict="unknown")


def states(engine: Engine, last: Mapping[str, Result] | None = None) -> dict[str, State]:
    """What the results of each check amount to; empty with both stores away.

    ``last``: the last results, of which the states are wanted; without it all are. The database is asked for
    a state that Redis does not have, or not with that result: a Redis that came back may be behind.
    """
    try:
        live = LiveStates(engine.redis).read()
    except StoreUnavailableError:
        live = {}
    doubtful = None
    if last is not None:
        doubtful = {name for name, result in last.items() if name not in live or live[name].at < result.at}
        if not doubtful:
            return live
    try:
        return newest_of(live, KeptStates(engine.database).read(doubtful))
    except StoreUnavailableError:
        return live


def changes(
    engine: Engine,
    *,
    check: str | None = None,
    since: datetime | None = None,
    after: int | None = None,
    limit: int = 100,
) -> list[KeptChange]:
    """What happened to the checks, the newest first; with ``after`` (an id) what came later, oldest first.

    A change may become visible after one with a higher id: whoever goes on from an id looks back a little,
    and knows a change by its check and number. StoreUnavailableError when the database is away.
    """
    return KeptStates(engine.database).changes(check=check, since=since, after=after, limit=limit)


def history(engine: Engine, name: str, limit: int | None = None) -> list[Result]:
    """The last results of one check, the newest first, at most ``health.history_size`` of them.

    Raises CheckNotFoundError for a check that is not declared, StoreUnavailableError when neither store
    answers.
    """
    if name not in engine.settings.health.checks:
        raise CheckNotFoundError(f"no health check is named {name!r}")
    limit = min(limit or engine.settings.health.history_size, engine.settings.health.history_size)
    try:
        if found := live_results(engine).history(name, limit):
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


def graph_of(settings: Settings) -> Graph:
    """The enabled checks by name; what one depends on stands in it."""
    return {check.name: check for check in declared(settings)}


def last_results(engine: Engine, names: Collection[str]) -> dict[str, Result]:
    """The last result of each check, for what is due: of Redis, else of the database."""
    try:
        live = live_results(engine).latest()
    except StoreUnavailableError:
        live = {}
    missing = set(names) - set(live)
    if not missing:
        return live
    try:
        return {**KeptResults(engine.database).latest(missing), **live}
    except StoreUnavailableError:
        return live


def _standings(graph: Graph, known: Mapping[str, State]) -> dict[str, Standing]:
    down = down_among(state for name, state in known.items() if name in graph)
    return {
        name: Standing(
            status=state.status,
            since=state.since,
            flapping=state.flapping,
            cause=cause_of(name, down, graph),
        )
        for name, state in known.items()
        if name in graph
    }


def _known(
    engine: Engine, checks: Collection[Declared], now: datetime
) -> tuple[dict[str, Result], dict[str, str]]:
    """The newest result of each check in either store, and what those stores said that did not answer."""
    silent: dict[str, str] = {}
    live: dict[str, Result] = {}
    try:
        live = live_results(engine).latest()
    except StoreUnavailableError as error:
        silent["redis"] = str(error)
    doubtful = [check.name for check in checks if _is_doubtful(check, live.get(check.name), now)]
    if not doubtful:
        return live, silent
    try:
        kept = KeptResults(engine.database).latest(doubtful)
    except StoreUnavailableError as error:
        return live, {**silent, "database": str(error)}
    newer = {name: r for name, r in kept.items() if name not in live or r.at > live[name].at}
    return {**live, **newer}, silent


def _is_doubtful(check: Declared, live: Result | None, now: datetime) -> bool:
    if live is None:
        return True
    return (now - live.at).total_seconds() > rules.stale_after(check.interval, check.timeout)

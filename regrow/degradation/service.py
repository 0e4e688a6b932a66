"""The level as the worker, the command line and the web process deal with it: decided, ordered, shown.

Redis is live: what is decided there holds, and applications hear it from there. The database has the history,
and what people ordered for when Redis forgets. Either may be away:

- Redis away: nothing is decided. Applications hold their last level for ``degradation.hold`` seconds.
- Database away: all goes on, and the changes wait in Redis (the last 200).
- Redis emptied: the level of the last change in the database goes on, and so does a standing order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
import structlog

from regrow import audit, counters
from regrow.degradation import kept
from regrow.degradation.kept import PastChange
from regrow.degradation.levels import Level, named
from regrow.degradation.permits import checked
from regrow.degradation.rules import NOTHING_KNOWN, Course, Reading, Rules, Score, rest, score_of, step
from regrow.degradation.state import Change, Order, Policy, State, newer, seen, settled
from regrow.degradation.store import LevelStore
from regrow.engine import Engine
from regrow.errors import SettingsError, StoreUnavailableError

logger = structlog.get_logger(__name__)

_TRIES = 5
_DATABASE_ERRORS = (StoreUnavailableError, sa.exc.DBAPIError)


class CheckLike(Protocol):
    """What is read of a check as it stands now."""

    @property
    def name(self) -> str: ...
    @property
    def counts_as(self) -> str: ...
    @property
    def required(self) -> bool: ...
    @property
    def maintenance(self) -> str | None: ...


@dataclass(frozen=True)
class Status:
    """The level as it stands. ``known`` False: nobody confirmed it lately, for which ``why`` has the reason.

    ``since`` is None before the first one. Times are aware, in UTC.
    """

    level: Level
    known: bool
    why: str
    since: datetime | None = None
    confirmed_at: datetime | None = None
    automatic: Level | None = None
    score: Score | None = None
    ordered: Level | None = None
    actor: str | None = None
    reason: str | None = None
    until: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, but for times."""
        score = self.score
        return {
            "level": self.level if self.known else "unknown",
            "assumed": self.level,
            "why": self.why,
            "since": self.since,
            "confirmed_at": self.confirmed_at,
            "automatic": self.automatic,
            "score": score and {"low": round(score.low, 2), "high": round(score.high, 2)},
            "pulls": [
                {"check": name, "status": status, "points": points} for name, status, points in score.pulls
            ]
            if score
            else [],
            "ordered": self.ordered
            and {
                "level": self.ordered,
                "actor": self.actor,
                "reason": self.reason,
                "until": self.until,
            },
        }


@dataclass(frozen=True)
class Ordered:
    """What became of an order. ``unheard``: why no application has heard it; ``unwritten``: not written, why.

    At most one of the two is set: with both stores away the order is refused.
    """

    order: Order
    unheard: StoreUnavailableError | None = None
    unwritten: StoreUnavailableError | None = None


def evaluate(engine: Engine, checks: Iterable[CheckLike]) -> dict[str, Any]:
    """One look: score the checks, move the level on if it is time, tell applications, write the change down.

    Returns the job's summary. StoreUnavailableError when Redis is away.
    """
    checks = list(checks)
    score = score_of(readings(engine, checks))
    resting = _rests(engine, checks)
    rules, policy = rules_of(engine), policy_of(engine)
    store = LevelStore(engine.redis)
    ordered, written = _kept(engine)

    def work(before: State | None, now: int) -> tuple[Course, Score, Order | None]:
        order = newer(before.order if before else None, ordered)
        course = before.course if before else None
        after = rest(course, now) if resting and course else step(course, score, rules, now)
        return after, score, order

    state, change = _replace(store, work, policy, _remembered(written))
    told = _write(engine, store, state, written)
    if change is not None:
        _tell(change)
    return {
        "level": str(state.level),
        "changed": change is not None,
        "score_low": round(score.low, 2),
        "score_high": round(score.high, 2),
        "ordered": bool(state.actor),
        "written": told if told is not None else 0,
        "not_written": told is None,
    }


def set_level(
    engine: Engine, level: str, *, actor: str, reason: str, expires_in: float | None = None
) -> Ordered:
    """Hold the level for ``expires_in`` seconds, or until :func:`clear`; applications hear at once.

    SettingsError for an unknown level, a time that is none, no actor or no reason. StoreUnavailableError when
     neither Redis nor the database takes it.
    """
    if expires_in is not None and not 0 < expires_in < 10 * 365 * 86_400:
        raise SettingsError(f"{expires_in}: say for how many seconds the level holds, or leave it out")
    return _order(engine, named(level), actor, reason, expires_in)


def clear(engine: Engine, *, actor: str, reason: str) -> Ordered:
    """Let the score decide again. Errors as of :func:`set_level`."""
    return _order(engine, None, actor, reason, None)


def status(engine: Engine) -> Status:
    """The level as Redis has it. StoreUnavailableError when Redis is away."""
    state, now = LevelStore(engine.redis).look()
    found = seen(state, now, now)
    if state is None:
        return Status(level=policy_of(engine).when_unknown, known=False, why=found.why)
    order = state.order if state.order is not None and state.order.stands(now) else None
    return Status(
        level=found.level,
        known=found.known,
        why=found.why,
        since=kept.moment(state.since),
        confirmed_at=kept.moment(state.course.at),
        automatic=state.course.level,
        score=state.score,
        ordered=order.level if order else None,
        actor=order.actor if order else None,
        reason=order.reason if order else None,
        until=kept.moment(order.until) if order and order.until else None,
    )


def history(engine: Engine, limit: int = 50) -> list[PastChange]:
    """The newest changes first. StoreUnavailableError when the database is away."""
    return kept.past(engine.database, limit)


def time_in_levels(engine: Engine, start: datetime, end: datetime) -> dict[str, timedelta]:
    """How long each level held in ``[start, end)``; ``unknown`` is a level of its own here."""
    with engine.database.snapshot() as connection:
        told = kept.within(connection, start, end)
    return kept.time_in_levels(told, start, end, timedelta(seconds=engine.settings.degradation.hold))


def prune(engine: Engine) -> int:
    """Delete changes older than ``degradation.retention_days``, but for the one that holds; how many went."""
    before = engine.clock() - timedelta(days=engine.settings.degradation.retention_days)
    with engine.database.snapshot() as connection:
        last = kept.newest(connection)
    return kept.prune(engine.database, before, last.revision) if last else 0


def readings(engine: Engine, checks: Iterable[CheckLike]) -> list[Reading]:
    """The checks by what is confirmed of them, with their weights.

    What is under maintenance is left out: nobody expects it to be up.
    """
    return [
        Reading(check.name, check.counts_as, _weight(engine, check), check.required)
        for check in checks
        if check.maintenance is None
    ]


def _weight(engine: Engine, check: CheckLike) -> float:
    chosen = engine.settings.degradation
    usual = chosen.required_weight if check.required else chosen.optional_weight
    return chosen.weights.get(check.name, usual)


def _rests(engine: Engine, checks: Iterable[CheckLike]) -> bool:
    """Whether every check that weighs anything is under maintenance: by plan nothing is known then."""
    weighty = [check for check in checks if _weight(engine, check) > 0]
    return bool(weighty) and all(check.maintenance is not None for check in weighty)


def rules_of(engine: Engine) -> Rules:
    chosen = engine.settings.degradation
    return Rules(
        thresholds=(chosen.minor, chosen.moderate, chosen.severe, chosen.critical),
        margin=chosen.margin,
        worsen_after=round(chosen.worsen_after * 1000),
        improve_after=round(chosen.improve_after * 1000),
        when_unknown=Level(chosen.when_unknown),
        required_down=Level(chosen.required_down),
        longest_gap=round(chosen.hold * 1000),
    )


def policy_of(engine: Engine) -> Policy:
    """What applications are told of the settings."""
    chosen = engine.settings.degradation
    return Policy(
        hold=chosen.hold,
        when_unknown=Level(chosen.when_unknown),
        permits=checked(dict(chosen.permits.items())),
        paths=chosen.paths,
        features=chosen.features,
    )


def _order(engine: Engine, level: Level | None, actor: str, reason: str, expires_in: float | None) -> Ordered:
    if not actor.strip() or not reason.strip():
        raise SettingsError("say who sets the level and why: actor and reason must not be empty")
    store = LevelStore(engine.redis)
    unheard = unwritten = None
    try:
        order = _tell_order(engine, store, level, actor, reason, expires_in)
    except StoreUnavailableError as error:
        now = round(time.time() * 1000)
        order, unheard = Order(now, level, actor, reason, now, _until(now, expires_in)), error
    act = "degradation.set" if level else "degradation.clear"

    def work(connection: sa.Connection) -> None:
        kept.keep_order(connection, order)
        audit.write(
            connection,
            at=engine.clock(),
            actor=actor,
            act=act,
            subject=level or "automatic",
            reason=reason,
            details={} if expires_in is None else {"seconds": expires_in},
        )

    try:
        engine.database.run(work)
    except StoreUnavailableError as error:
        if unheard is not None:
            raise StoreUnavailableError(f"not done: {unheard}; and {error}") from error
        unwritten = error
    return Ordered(order, unheard, unwritten)


def _tell_order(
    engine: Engine,
    store: LevelStore,
    level: Level | None,
    actor: str,
    reason: str,
    expires_in: float | None,
) -> Order:
    unmeasured = Course(rules_of(engine).when_unknown, 0)  # confirmed by nobody until the monitor's next look
    given: list[Order] = []

    def work(before: State | None, now: int) -> tuple[Course, Score, Order | None]:
        revision = max(now, before.order.revision + 1 if before and before.order else 0)
        given.append(Order(revision, level, actor, reason, now, _until(now, expires_in)))
        if before is None:
            return unmeasured, NOTHING_KNOWN, given[-1]
        return before.course, before.score, given[-1]

    _ordered, written = _kept(engine)
    state, change = _replace(store, work, policy_of(engine), _remembered(written))
    if change is not None:
        _tell(change)
    try:
        _write(engine, store, state, None, confirmed=False)
    except StoreUnavailableError as error:  # it holds all the same
        logger.warning("degradation.not_written", error=str(error))
    return given[-1]


def _replace(
    store: LevelStore,
    work: Callable[[State | None, int], tuple[Course, Score, Order | None]],
    policy: Policy,
    remembered: State | None,
) -> tuple[State, Change | None]:
    """Read, decide, replace what was read; again when somebody was faster.

    ``remembered``: what goes on where Redis has nothing.
    """
    for _ in range(_TRIES):
        held, revision, now = store.read()
        before = held or remembered
        course, score, order = work(before, now)
        state, change = settled(before, course, score, order, policy, now)
        tell = held is None or change is not None or held.order != order or held.policy != policy
        if store.replace(revision, state, change, tell=tell):
            if held is None and remembered is not None:
                logger.warning("degradation.restored", level=str(state.level), ordered=bool(state.actor))
            return state, change
    raise StoreUnavailableError("others changed the level at every try; try again")


def _kept(engine: Engine) -> tuple[Order | None, PastChange | None]:
    """What the database knows; nothing while it is away."""
    try:
        with engine.database.snapshot() as connection:
            return kept.kept_order(connection), kept.newest(connection)
    except _DATABASE_ERRORS as error:
        logger.warning("degradation.database_away", error=str(error))
        return None, None


def _remembered(written: PastChange | None) -> State | None:
    """The state as far as the last change tells, for a Redis that forgot it."""
    if written is None:
        return None
    return State(
        revision=written.revision,
        course=Course(written.automatic, kept.ms(written.seen_at)),
        level=written.new,
        since=kept.ms(written.at),
        reason=written.reason,
        actor=written.actor or "",
    )


def _write(
    engine: Engine, store: LevelStore, state: State, written: PastChange | None, *, confirmed: bool = True
) -> int | None:
    """Write down what is not there yet; how many changes were, None while the database is away."""
    told = store.changes(written.revision if written else 0)
    order = state.order

    def work(connection: sa.Connection) -> list[Change]:
        new = kept.keep_changes(connection, told)
        if order is not None:
            kept.keep_order(connection, order)
        last = kept.newest(connection)
        if confirmed and last is not None and last.new is state.level:
            kept.confirm(connection, last.revision, state.course.at)
        return new

    try:
        new = engine.database.run(work)
    except _DATABASE_ERRORS as error:
        logger.warning("degradation.not_written", error=str(error))
        return None
    counters.add(
        engine,
        "degradation_events_total",
        *({"from": change.old or "none", "to": change.new} for change in new),
    )
    return len(new)


def _tell(change: Change) -> None:
    if change.old is None and change.new is Level.NORMAL:
        return
    log = logger.info if change.new is Level.NORMAL else logger.warning
    log(
        "degradation.changed",
        old_level=str(change.old or "unknown"),
        new_level=str(change.new),
        reason=change.reason,
        actor=change.actor,
    )


def _until(now: int, expires_in: float | None) -> int:
    return 0 if expires_in is None else now + max(1, round(expires_in * 1000))

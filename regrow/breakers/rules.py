"""The rules of a circuit breaker: a state, an event and the time in; the next state and what happened out.

The life of a breaker. *Closed*: processes report their outcomes in batches; enough failures in a row, or a
high enough failure rate, open it. *Open*: nobody is admitted until ``recovery_timeout`` has passed.
*Half-open*: derived, not set by a clock; the first process that asks for a probe after that time gets a
lease, and ``success_threshold`` probes that succeed close the breaker, one that fails opens it again.

Every transition has an epoch, ``max(previous + 1, now)``, so that a store that lost its memory never mints
an old one again. Evidence carries the epoch it was admitted under and is dropped when that is over.

Nothing here reads a clock, a socket or a random number. All times are integer milliseconds of *one* clock,
the store's. ``breaker.lua`` says the same in Lua; the tests hold the two against each other.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from regrow.errors import SettingsError

SLOTS = 60  # the window is kept in this many parts, however long it is
LEASE_MS = 2_000  # a probe whose process died is given to another after this
PARKED_MS = 2_000  # an unused lease is left with its process this long when others want one


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class OverrideKind(StrEnum):
    """What a person told the breaker to be."""

    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"  # it counts and says when it would open, and refuses nobody


class OrderKind(StrEnum):
    """What a person can tell a breaker to do."""

    RESET = "reset"
    FORCE_OPEN = "force_open"
    DISABLE = "disable"
    METRICS_ONLY = "metrics_only"


class ProbeResult(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    SLOW = "slow"  # it did what it should, but slower than ``slow_call_duration``
    RELEASE = "release"  # given back unscored: cancelled, or not the remote's fault


@dataclass(frozen=True)
class BreakerConfig:
    """When a breaker trips and how it recovers. Times in seconds, counts in calls, rates in 0..1.

    ``window_size``: the last N calls of the whole fleet (whole slots, oldest dropped first), none older than
    ``window_seconds``. ``timeout=None``: no call is too late.
    ``slow_call_duration``: calls that take longer are counted as slow, whether they fail or not; None: none.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    success_threshold: int = 3
    timeout: float | None = 30.0
    window_size: int = 100
    minimum_requests: int = 10
    failure_rate: float = 0.5
    half_open_max_calls: int = 1
    window_seconds: float = 60.0
    slow_call_duration: float | None = None
    slow_call_rate: float = 0.5

    def __post_init__(self) -> None:
        for name in (
            "failure_threshold",
            "success_threshold",
            "window_size",
            "minimum_requests",
            "half_open_max_calls",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(
                    f"circuit breaker: {name} is {value!r}; give a whole number of calls, 1 or more"
                )
        for name in ("recovery_timeout", "window_seconds", "timeout", "slow_call_duration"):
            value = getattr(self, name)
            if name in ("timeout", "slow_call_duration") and value is None:
                continue
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise SettingsError(f"circuit breaker: {name} is {value!r}; give seconds above 0")
        for name in ("failure_rate", "slow_call_rate"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= 1:
                raise SettingsError(
                    f"circuit breaker: {name} is {value!r}; give a share above 0, up to 1 (0.5 is half)"
                )

    @cached_property
    def recovery_ms(self) -> int:
        return milliseconds(self.recovery_timeout)

    @cached_property
    def window_ms(self) -> int:
        return milliseconds(self.window_seconds)

    @cached_property
    def slot_ms(self) -> int:
        return max(1, math.ceil(self.window_ms / SLOTS))

    @cached_property
    def unremarkable(self) -> float:
        """Seconds up to which a call that succeeds is neither late nor slow."""
        limits = (self.timeout, self.slow_call_duration)
        return min((limit for limit in limits if limit is not None), default=math.inf)

    def is_late(self, seconds: float) -> bool:
        return self.timeout is not None and seconds > self.timeout

    def is_slow(self, seconds: float) -> bool:
        return self.slow_call_duration is not None and seconds > self.slow_call_duration

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BreakerConfig:
        """Settings as another process wrote them; names that this version does not know are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one."""
    return max(1, math.floor(seconds * 1000 + 0.5))


@dataclass(frozen=True, slots=True)
class Slot:
    """The calls that were reported within one part of the window, which began at ``start``.

    ``slow``: how many of them, failed or not, were slow.
    """

    start: int
    successes: int
    failures: int
    slow: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make one probe call."""

    token: str
    expires: int
    granted: int


@dataclass(frozen=True, slots=True)
class Override:
    """A person's hand on the switch. ``until`` is 0 when it holds until someone resets the breaker."""

    kind: OverrideKind
    actor: str
    reason: str
    until: int = 0


@dataclass(frozen=True, slots=True)
class Breaker:
    """The whole state of one breaker."""

    state: State = State.CLOSED
    epoch: int = 0
    since: int = 0
    open_until: int = 0
    run: int = 0
    window: tuple[Slot, ...] = ()
    probe_successes: int = 0
    leases: tuple[Lease, ...] = ()
    wanted: bool = False
    override: Override | None = None
    would_open: int = 0
    """How often it would have opened since it was told to refuse nobody."""

    @property
    def successes(self) -> int:
        return sum(slot.successes for slot in self.window)

    @property
    def failures(self) -> int:
        return sum(slot.failures for slot in self.window)

    @property
    def slow(self) -> int:
        return sum(slot.slow for slot in self.window)


@dataclass(frozen=True, slots=True)
class Report:
    """A process's outcomes since its last report, all admitted under ``epoch``.

    ``run`` is the length of the run of failures that the batch ends with; ``slow`` counts the slow among all
    calls, failed or not. ``reporter`` and ``sequence`` let a
    store ignore a report that it has already counted.
    """

    epoch: int
    successes: int
    failures: int
    run: int
    reporter: str = ""
    sequence: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class AskProbe:
    """A process has a caller for a probe and asks for the lease ``token``."""

    token: str


@dataclass(frozen=True, slots=True)
class RenewProbe:
    """The lease is still held; ``parked`` when no call is using it yet."""

    token: str
    parked: bool


@dataclass(frozen=True, slots=True)
class SettleProbe:
    token: str
    epoch: int
    result: ProbeResult


@dataclass(frozen=True, slots=True)
class Order:
    """A person's command. ``expires_ms`` 0: until someone resets the breaker.

    ``over`` is set when a command that stood before is put back: it is obeyed only while the breaker is at
    this epoch, so that nothing newer is undone. ``after``: the epoch it had, which the new one must exceed.
    """

    kind: OrderKind
    actor: str
    reason: str
    expires_ms: int = 0
    over: int | None = None
    after: int = 0


@dataclass(frozen=True, slots=True)
class Restore:
    """What a process last knew, for a store that forgot. Times are what is left, never a caller's clock."""

    epoch: int
    state: State
    open_ms: int = 0
    override: OverrideKind | None = None
    actor: str = ""
    reason: str = ""
    override_ms: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """See the state. ``advance``: record as half-open what was open for its whole time with no caller."""

    advance: bool = False


Event = Report | AskProbe | RenewProbe | SettleProbe | Order | Restore | Look


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state. ``previous`` is the epoch before it: by it one sees whether one is missing."""

    epoch: int
    previous: int
    from_state: State
    to_state: State
    reason: str
    at: int
    actor: str = ""
    successes: int = 0
    failures: int = 0
    run: int = 0
    override: str = ""
    slow: int = 0

    @property
    def would_open(self) -> bool:
        """Whether nothing changed but that a breaker which refuses nobody would have opened."""
        return self.override == OverrideKind.METRICS_ONLY and not self.actor

    @property
    def failure_rate(self) -> float:
        total = self.successes + self.failures
        return self.failures / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """The next state; whether the event was accepted (or the lease granted); the transitions on the way."""

    breaker: Breaker
    accepted: bool = True
    transitions: tuple[Transition, ...] = ()


def apply(config: BreakerConfig, breaker: Breaker, event: Event, now: int) -> Step:
    """The next state of ``breaker`` when ``event`` arrives at ``now``."""
    rested = _refresh(config, breaker, now)
    fresh = rested.breaker
    match event:
        case Report():
            step = _report(config, fresh, event, now)
        case AskProbe():
            step = _ask(config, fresh, event, now)
        case RenewProbe():
            step = _renew(fresh, event, now)
        case SettleProbe():
            step = _settle(config, fresh, event, now)
        case Order():
            step = _obey(fresh, event, now)
        case Restore():
            step = _restore(fresh, event, now)
        case Look():
            step = _look(fresh, event, now)
    return replace(step, transitions=rested.transitions + step.transitions)


def shown_state(breaker: Breaker, now: int) -> State:
    """The state as people and callers see it: open past its time is half-open."""
    if breaker.state is State.OPEN and breaker.override is None and now >= breaker.open_until:
        return State.HALF_OPEN
    return breaker.state


def retry_after_ms(breaker: Breaker, now: int) -> int | None:
    """Milliseconds until a probe may be admitted; 0 when at once, None when only a person can say."""
    if breaker.state is not State.OPEN:
        return 0
    if breaker.override is not None:
        return breaker.override.until - now if breaker.override.until else None
    return max(0, breaker.open_until - now)


def joined(first: Report, second: Report) -> Report:
    """Two reports under one epoch as one, the second after the first."""
    return replace(
        second,
        successes=first.successes + second.successes,
        failures=first.failures + second.failures,
        slow=first.slow + second.slow,
        run=second.run if second.successes else first.run + second.failures,
    )


def shifted(breaker: Breaker, by: int) -> Breaker:
    """The same state told by a clock that is ``by`` ms ahead; leases stay behind with their store."""
    override = breaker.override
    if override is not None and override.until:
        override = replace(override, until=override.until + by)
    return replace(
        breaker,
        since=breaker.since + by if breaker.since else 0,
        open_until=breaker.open_until + by if breaker.open_until else 0,
        window=tuple(replace(slot, start=slot.start + by) for slot in breaker.window),
        leases=(),
        wanted=False,
        override=override,
    )


def _refresh(config: BreakerConfig, breaker: Breaker, now: int) -> Step:
    """Let time pass: old slots and dead leases go, an override that is over is lifted.

    The clock may have jumped, so nothing may lie further ahead than a sane clock could have put it.
    """
    breaker = replace(
        breaker,
        window=tuple(slot for slot in breaker.window if now - config.window_ms < slot.start <= now),
        leases=tuple(
            replace(lease, expires=min(lease.expires, now + LEASE_MS))
            for lease in breaker.leases
            if lease.expires > now
        ),
        open_until=min(breaker.open_until, now + config.recovery_ms),
    )
    override = breaker.override
    if override is None or not override.until or now < override.until:
        return Step(breaker)
    to = State.HALF_OPEN if override.kind is OverrideKind.FORCED_OPEN else State.CLOSED
    return _move(replace(breaker, override=None), to, f"{override.kind} expired", now)


def _move(
    breaker: Breaker,
    to: State,
    reason: str,
    now: int,
    *,
    open_until: int = 0,
    actor: str = "",
    override: Override | None = None,
    would_open: int = 0,
) -> Step:
    epoch = max(breaker.epoch + 1, now)
    moved = Breaker(
        state=to, epoch=epoch, since=now, open_until=open_until, override=override, would_open=would_open
    )
    told = Transition(
        epoch=epoch,
        previous=breaker.epoch,
        from_state=breaker.state,
        to_state=to,
        reason=reason,
        at=now,
        actor=actor,
        successes=breaker.successes,
        failures=breaker.failures,
        run=breaker.run,
        override=str(override.kind) if override else "",
        slow=breaker.slow,
    )
    return Step(moved, transitions=(told,))


def _report(config: BreakerConfig, breaker: Breaker, report: Report, now: int) -> Step:
    if report.epoch != breaker.epoch or not _counts(breaker, now):
        return Step(breaker, accepted=False)
    counted = replace(
        breaker,
        # Batches are ordered by arrival; one without a success lengthens the fleet's run.
        run=report.run if report.successes else breaker.run + report.failures,
        window=_counted(config, breaker.window, report, now),
    )
    reason = _trip_reason(config, counted)
    if reason is None:
        return Step(counted)
    if counted.override is not None:
        return _move(
            counted,
            State.CLOSED,
            f"would have opened: {reason}",
            now,
            open_until=now + config.recovery_ms,
            override=counted.override,
            would_open=counted.would_open + 1,
        )
    return _move(counted, State.OPEN, reason, now, open_until=now + config.recovery_ms)


def _counts(breaker: Breaker, now: int) -> bool:
    """Whether outcomes count. One that refuses nobody counts none while it would have been open."""
    if breaker.override is not None:
        return breaker.override.kind is OverrideKind.METRICS_ONLY and now >= breaker.open_until
    return breaker.state is State.CLOSED


def _counted(config: BreakerConfig, window: tuple[Slot, ...], report: Report, now: int) -> tuple[Slot, ...]:
    start = now - now % config.slot_ms
    slots = list(window)
    last = slots.pop() if slots and slots[-1].start >= start else Slot(start, 0, 0)
    slots.append(
        Slot(
            last.start,
            last.successes + report.successes,
            last.failures + report.failures,
            last.slow + report.slow,
        )
    )
    total = sum(slot.successes + slot.failures for slot in slots)
    while len(slots) > 1 and (
        len(slots) > SLOTS or total - slots[0].successes - slots[0].failures >= config.window_size
    ):
        dropped = slots.pop(0)
        total -= dropped.successes + dropped.failures
    return tuple(slots)


def _trip_reason(config: BreakerConfig, breaker: Breaker) -> str | None:
    if breaker.run >= config.failure_threshold:
        return f"{breaker.run} failures in a row"
    total = breaker.successes + breaker.failures
    if total >= config.minimum_requests and breaker.failures >= config.failure_rate * total:
        return f"{breaker.failures} of {total} calls failed"
    if total >= config.minimum_requests and 0 < breaker.slow >= config.slow_call_rate * total:
        return f"{breaker.slow} of {total} calls slow"
    return None


def _ask(config: BreakerConfig, breaker: Breaker, ask: AskProbe, now: int) -> Step:
    if breaker.override is not None or shown_state(breaker, now) is not State.HALF_OPEN:
        return Step(breaker, accepted=False)
    moved = _half_open(breaker, now)
    breaker = moved.breaker
    if len(breaker.leases) >= config.half_open_max_calls:
        return Step(replace(breaker, wanted=True), accepted=False, transitions=moved.transitions)
    lease = Lease(ask.token, expires=now + LEASE_MS, granted=now)
    return Step(
        replace(breaker, leases=(*breaker.leases, lease), wanted=False), transitions=moved.transitions
    )


def _half_open(breaker: Breaker, now: int) -> Step:
    if breaker.state is State.HALF_OPEN:
        return Step(breaker)
    return _move(breaker, State.HALF_OPEN, "recovery timeout passed", now)


def _renew(breaker: Breaker, renew: RenewProbe, now: int) -> Step:
    lease = _lease(breaker, renew.token)
    if lease is None:
        return Step(breaker, accepted=False)
    others = tuple(other for other in breaker.leases if other is not lease)
    if renew.parked and breaker.wanted and now - lease.granted >= PARKED_MS:
        return Step(replace(breaker, leases=others, wanted=False), accepted=False)
    return Step(replace(breaker, leases=(*others, replace(lease, expires=now + LEASE_MS))))


def _settle(config: BreakerConfig, breaker: Breaker, settle: SettleProbe, now: int) -> Step:
    lease = _lease(breaker, settle.token)
    if lease is None or settle.epoch != breaker.epoch or breaker.state is not State.HALF_OPEN:
        return Step(breaker, accepted=False)
    breaker = replace(breaker, leases=tuple(other for other in breaker.leases if other is not lease))
    match settle.result:
        case ProbeResult.RELEASE:
            return Step(breaker)
        case ProbeResult.FAILURE:
            return _move(breaker, State.OPEN, "a probe failed", now, open_until=now + config.recovery_ms)
        case ProbeResult.SLOW:
            return _move(breaker, State.OPEN, "a probe was slow", now, open_until=now + config.recovery_ms)
        case ProbeResult.SUCCESS:
            succeeded = breaker.probe_successes + 1
            if succeeded < config.success_threshold:
                return Step(replace(breaker, probe_successes=succeeded))
            return _move(breaker, State.CLOSED, f"{succeeded} probes succeeded", now)


def _obey(breaker: Breaker, order: Order, now: int) -> Step:
    if order.over is not None and order.over != breaker.epoch:
        return Step(breaker, accepted=False)
    breaker = replace(breaker, epoch=max(breaker.epoch, order.after))
    until = now + order.expires_ms if order.expires_ms else 0
    match order.kind:
        case OrderKind.RESET:
            to, override = State.CLOSED, None
        case OrderKind.FORCE_OPEN:
            to, override = State.OPEN, Override(OverrideKind.FORCED_OPEN, order.actor, order.reason, until)
        case OrderKind.DISABLE:
            to, override = State.CLOSED, Override(OverrideKind.DISABLED, order.actor, order.reason, until)
        case OrderKind.METRICS_ONLY:
            to, override = State.CLOSED, Override(OverrideKind.METRICS_ONLY, order.actor, order.reason, until)
    reason = f"{order.kind}: {order.reason}" if order.reason else str(order.kind)
    if order.over is not None:
        reason = f"restored: {reason}"
    return _move(breaker, to, reason, now, actor=order.actor, override=override)


def _restore(breaker: Breaker, known: Restore, now: int) -> Step:
    if breaker.epoch >= known.epoch:
        return Step(breaker, accepted=False)
    override = None
    if known.override is not None:
        until = now + known.override_ms if known.override_ms else 0
        override = Override(known.override, known.actor, known.reason, until)
    open_until = now + known.open_ms if known.state is State.OPEN and override is None else 0
    return Step(Breaker(known.state, known.epoch, now, open_until, override=override))


def _look(breaker: Breaker, look: Look, now: int) -> Step:
    if look.advance and breaker.state is State.OPEN and shown_state(breaker, now) is State.HALF_OPEN:
        return _half_open(breaker, now)
    return Step(breaker)


def _lease(breaker: Breaker, token: str) -> Lease | None:
    return next((lease for lease in breaker.leases if lease.token == token), None)

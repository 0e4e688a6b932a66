"""The rules of a circuit breaker: a state, an event and the time in; the next state and what happened out.

The life of a breaker. *Closed*: processes report their outcomes in batches; enough failures in a row, or a
high enough failure rate, open it. *Open*: nobody is admitted until ``recovery_timeout`` has passed.
*Half-open*: derived, not set by a clock; the first process that asks for a probe after that time gets a
lease, and ``success_threshold`` probes that succeed close the breaker, one that fails opens it again.

A host that fails while others do not goes through the same life by itself (``quorum.py``). An event of one of
its processes happens to what the host has of its own, if there is such a thing, else to the fleet's state.

Every transition has an epoch, ``max(highest + 1, now)``, so that a store that lost its memory never mints
an old one again. Evidence carries the epoch it was admitted under and is dropped when that is over.

Nothing here reads a clock, a socket or a random number. All times are integer milliseconds of *one* clock,
the store's. ``breaker.lua`` says the same in Lua; the tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from regrow.breakers import quorum
from regrow.breakers.config import SLOTS, BreakerConfig, milliseconds
from regrow.breakers.model import (
    AskProbe,
    Breaker,
    Event,
    Host,
    Lease,
    Look,
    Order,
    OrderKind,
    Override,
    OverrideKind,
    ProbeResult,
    RenewProbe,
    Report,
    Restore,
    SettleProbe,
    Slot,
    State,
    Step,
    Transition,
)

__all__ = [
    "LEASE_MS",
    "PARKED_MS",
    "SLOTS",
    "AskProbe",
    "Breaker",
    "BreakerConfig",
    "Event",
    "Host",
    "Lease",
    "Look",
    "Order",
    "OrderKind",
    "Override",
    "OverrideKind",
    "ProbeResult",
    "RenewProbe",
    "Report",
    "Restore",
    "SettleProbe",
    "Slot",
    "State",
    "Step",
    "Transition",
    "apply",
    "joined",
    "milliseconds",
    "retry_after_ms",
    "shifted",
    "shown_state",
]

LEASE_MS = 2_000  # a probe whose process died is given to another after this
PARKED_MS = 2_000  # an unused lease is left with its process this long when others want one


def apply(config: BreakerConfig, breaker: Breaker, event: Event, now: int, host: str = "") -> Step:
    """The next state of ``breaker`` when ``event`` arrives at ``now`` from a process of ``host``.

    Without a host (an operator, the monitor) it is the fleet's state that the event happens to.
    """
    rested = _refresh(config, breaker, now)
    name = quorum.tag(rested.breaker, host)
    fresh = quorum.noted(rested.breaker, name, now)
    match event:
        case Report():
            step = _report(config, fresh, event, now, name)
        case Order():
            step = _obey(fresh, event, now)
        case Restore():
            step = _restore(fresh, event, now, name)
        case Look():
            step = _look(fresh, event, now)
        case AskProbe():
            step = _within(fresh, name, lambda seen: _ask(config, seen, event, now))
        case RenewProbe():
            step = _within(fresh, name, lambda seen: _renew(seen, event, now))
        case SettleProbe():
            step = _within(fresh, name, lambda seen: _settle(config, seen, event, now))
    return replace(step, transitions=rested.transitions + step.transitions)


def _within(breaker: Breaker, name: str, happen: Callable[[Breaker], Step]) -> Step:
    """Let something happen to what a host has of its own, or else to the fleet's state."""
    seen = quorum.seen_from(breaker, name)
    step = happen(seen)
    return step if seen is breaker else _put_back(breaker, quorum.tag(breaker, name), step)


def _put_back(breaker: Breaker, name: str, step: Step) -> Step:
    return Step(
        quorum.put_back(breaker, name, step.breaker),
        step.accepted,
        tuple(replace(told, reporter=name) for told in step.transitions),
    )


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
    """The same state told by a clock that is ``by`` ms ahead; leases and hosts stay with their store."""
    override = breaker.override
    if override is not None and override.until:
        override = replace(override, until=override.until + by)
    return replace(
        breaker,
        since=breaker.since + by if breaker.since else 0,
        open_until=breaker.open_until + by if breaker.open_until else 0,
        window=tuple(replace(slot, start=slot.start + by) for slot in breaker.window),
        closed_at=breaker.closed_at + by if breaker.closed_at else 0,
        leases=(),
        wanted=False,
        override=override,
        hosts=(),
    )


def _refresh(config: BreakerConfig, breaker: Breaker, now: int) -> Step:
    """Let time pass: old slots, dead leases and hosts that are gone go, an override that is over is lifted.

    The clock may have jumped, so nothing may lie further ahead than a sane clock could have put it.
    """
    breaker = replace(
        _rested(config, breaker, now),
        window=tuple(slot for slot in breaker.window if now - config.window_ms < slot.start <= now),
        hosts=tuple(
            replace(host, seen=min(host.seen, now), own=_rested(config, host.own, now))
            for host in breaker.hosts
        ),
    )
    left = _without_the_gone(config, breaker, now)
    override = breaker.override
    if override is None or not override.until or now < override.until:
        return left
    to = State.HALF_OPEN if override.kind is OverrideKind.FORCED_OPEN else State.CLOSED
    lifted = _move(replace(left.breaker, override=None), to, f"{override.kind} expired", now)
    return replace(lifted, transitions=left.transitions + lifted.transitions)


def _rested(config: BreakerConfig, breaker: Breaker, now: int) -> Breaker:
    return replace(
        breaker,
        leases=tuple(
            replace(lease, expires=min(lease.expires, now + LEASE_MS))
            for lease in breaker.leases
            if lease.expires > now
        ),
        open_until=min(breaker.open_until, now + config.recovery_ms),
        closed_at=min(breaker.closed_at, now),
    )


def _without_the_gone(config: BreakerConfig, breaker: Breaker, now: int) -> Step:
    told: tuple[Transition, ...] = ()
    for host in breaker.hosts:
        if not quorum.gone(config, breaker, host, now):
            continue
        seen = quorum.seen_from(breaker, host.name)
        if seen is not breaker and seen.state is not State.CLOSED:
            step = _put_back(breaker, host.name, _move(seen, State.CLOSED, "its reporter is gone", now))
            breaker, told = step.breaker, told + step.transitions
        breaker = replace(breaker, hosts=tuple(other for other in breaker.hosts if other.name != host.name))
    return Step(breaker, transitions=told)


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
    epoch = max(breaker.epoch + 1, breaker.minted + 1, now)
    moved = Breaker(
        state=to,
        epoch=epoch,
        since=now,
        open_until=open_until,
        override=override,
        would_open=would_open,
        minted=epoch,
        closed_at=now if to is State.CLOSED is not breaker.state and override is None else 0,
        hosts=_cleared(breaker.hosts),
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


def _cleared(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """Hosts without anything of their own; the epoch stays, for the chain of its transitions."""
    return tuple(replace(host, shared=0, own=Breaker(epoch=host.own.epoch)) for host in hosts)


def _report(config: BreakerConfig, breaker: Breaker, report: Report, now: int, name: str) -> Step:
    seen = quorum.seen_from(breaker, name)
    if report.epoch != seen.epoch or not _counts(seen, now):
        return Step(breaker, accepted=False)
    counted = _counted(config, breaker, report, now, name)
    reason = quorum.reason_for_the_fleet(config, counted, now)
    if reason is not None:
        return _trip(config, counted, reason, now)
    part = quorum.part_of(counted, name) if quorum.alive(counted, now) > 1 else None
    reason = quorum.reason_to_open(config, part) if part else None
    if part is None or reason is None:
        return Step(counted)
    step = _put_back(counted, name, _trip(config, part, reason, now))
    return replace(step, breaker=quorum.without_evidence_of(step.breaker, name))


def _trip(config: BreakerConfig, breaker: Breaker, reason: str, now: int) -> Step:
    open_until = now + config.recovery_ms
    if breaker.override is None:
        return _move(breaker, State.OPEN, reason, now, open_until=open_until)
    return _move(
        breaker,
        State.CLOSED,
        f"would have opened: {reason}",
        now,
        open_until=open_until,
        override=breaker.override,
        would_open=breaker.would_open + 1,
    )


def _counts(breaker: Breaker, now: int) -> bool:
    """Whether outcomes count. One that refuses nobody counts none while it would have been open."""
    if breaker.override is not None:
        return breaker.override.kind is OverrideKind.METRICS_ONLY and now >= breaker.open_until
    return breaker.state is State.CLOSED


def _counted(config: BreakerConfig, breaker: Breaker, report: Report, now: int, name: str) -> Breaker:
    """The breaker with one more report in its runs and its window."""

    def run(before: int) -> int:
        # Batches are ordered by arrival; one without a success lengthens the run.
        return report.run if report.successes else before + report.failures

    def counted(host: Host) -> Host:
        if host.name != name:
            return replace(host, shared=0) if report.successes else host
        return replace(host, shared=run(host.shared), own=replace(host.own, run=run(host.own.run)))

    return replace(
        breaker,
        run=run(breaker.run),
        window=_longer(config, breaker.window, report, now, name),
        hosts=tuple(counted(host) for host in breaker.hosts),
    )


def _longer(
    config: BreakerConfig, window: tuple[Slot, ...], report: Report, now: int, name: str
) -> tuple[Slot, ...]:
    start = max([now - now % config.slot_ms, *(slot.start for slot in window[-1:])])
    known = next((slot for slot in window if (slot.start, slot.host) == (start, name)), None)
    last = known or Slot(start, 0, 0, host=name)
    more = replace(
        last,
        successes=last.successes + report.successes,
        failures=last.failures + report.failures,
        slow=last.slow + report.slow,
    )
    slots = [more if slot is known else slot for slot in window]
    if known is None:
        slots.append(more)
    calls: dict[int, int] = {}
    for slot in slots:
        calls[slot.start] = calls.get(slot.start, 0) + slot.successes + slot.failures
    total = sum(calls.values())
    while len(calls) > 1:
        oldest = next(iter(calls))
        if len(calls) <= SLOTS and total - calls[oldest] < config.window_size:
            break
        total -= calls.pop(oldest)
    return tuple(slot for slot in slots if slot.start in calls)


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
    if order.after:
        reason = f"restored: {reason}"
    return _move(breaker, to, reason, now, actor=order.actor, override=override)


def _restore(breaker: Breaker, known: Restore, now: int, name: str) -> Step:
    seen = quorum.seen_from(breaker, name) if known.alone else breaker
    if seen.epoch >= known.epoch or (known.alone and not name):
        return Step(breaker, accepted=False)
    override = None
    if known.override is not None:
        until = now + known.override_ms if known.override_ms else 0
        override = Override(known.override, known.actor, known.reason, until)
    open_until = now + known.open_ms if known.state is State.OPEN and override is None else 0
    closed_at = max(1, now - known.closed_ms) if known.closed_ms is not None and override is None else 0
    restored = Breaker(known.state, known.epoch, now, open_until, override=override, closed_at=closed_at)
    if known.alone:
        return Step(quorum.put_back(breaker, name, replace(restored, would_open=breaker.would_open)))
    minted = max(breaker.minted, known.epoch)
    return Step(replace(restored, minted=minted, hosts=_cleared(breaker.hosts)))


def _look(breaker: Breaker, look: Look, now: int) -> Step:
    if not look.advance:
        return Step(breaker)
    told: tuple[Transition, ...] = ()
    for name in (*(host.name for host in breaker.hosts), ""):
        if _waits_for_a_caller(quorum.seen_from(breaker, name), now):
            step = _within(breaker, name, lambda seen: _half_open(seen, now))
            breaker, told = step.breaker, told + step.transitions
    return Step(breaker, transitions=told)


def _waits_for_a_caller(breaker: Breaker, now: int) -> bool:
    return breaker.state is State.OPEN and shown_state(breaker, now) is State.HALF_OPEN


def _lease(breaker: Breaker, token: str) -> Lease | None:
    return next((lease for lease in breaker.leases if lease.token == token), None)

"""What a breaker would have done: recorded outcomes through the rules, under a proposed configuration.

A replay takes the outcomes as they were. What it cannot know: how callers would have acted on a refusal, and
how the service would have fared with the refused calls kept from it. Each outcome counts at once, for one
host that reports without delay; a probe takes no time; after closing all calls are let through at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from regrow.breakers import rules
from regrow.breakers.rules import (
    AskProbe,
    Breaker,
    BreakerConfig,
    ProbeResult,
    Report,
    SettleProbe,
    Slot,
    State,
    Step,
    Transition,
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made: when it ended (ms since 1970), whether it failed, how many seconds it took."""

    at: int
    failed: bool
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it. ``refused_failures``: failed calls that would not have been made.

    ``refused_successes``: good ones that would not have been made either. ``not_closed_ms``: time open or
    half-open, to the last call. ``state``: after the last call.
    """

    calls: int
    failures: int
    refused_failures: int
    refused_successes: int
    transitions: tuple[Transition, ...]
    not_closed_ms: int
    state: State

    @property
    def openings(self) -> list[Transition]:
        """The transitions that opened it when it was closed, without those of probes that failed."""
        return [told for told in self.transitions if told.from_state is State.CLOSED]


def replay(config: BreakerConfig, calls: Iterable[Call]) -> Replay:
    """The calls, in the order of their times, under ``config``; the breaker begins closed."""
    ordered = sorted(calls, key=lambda call: call.at)
    breaker, told = Breaker(), list[Transition]()
    failures = refused_failures = refused_successes = 0
    for call in ordered:
        failed = _failed(config, call)
        failures += failed
        step = _meet(config, breaker, call, failed=failed)
        breaker = step.breaker
        told += step.transitions
        if not step.accepted:
            refused_failures += failed
            refused_successes += not failed
    end = ordered[-1].at if ordered else 0
    return Replay(
        calls=len(ordered),
        failures=failures,
        refused_failures=refused_failures,
        refused_successes=refused_successes,
        transitions=tuple(told),
        not_closed_ms=_not_closed_ms(told, end),
        state=rules.shown_state(breaker, end),
    )


def would_trip(
    config: BreakerConfig, *, successes: int, failures: int, run: int, slow: int = 0
) -> str | None:
    """Why a breaker would open under ``config`` with these figures in its window; None if it would not."""
    now = config.slot_ms
    breaker = Breaker(run=run, window=(Slot(now, successes, failures, slow),))
    step = rules.apply(config, breaker, Report(epoch=0, successes=0, failures=0, run=0), now)
    return step.transitions[-1].reason if step.transitions else None


def _meet(config: BreakerConfig, breaker: Breaker, call: Call, *, failed: bool) -> Step:
    """What the call does to the breaker; not accepted when the breaker refuses it."""
    match rules.shown_state(breaker, call.at):
        case State.OPEN:
            return Step(breaker, accepted=False)
        case State.CLOSED:
            report = Report(
                breaker.epoch, int(not failed), int(failed), int(failed), slow=_slow(config, call)
            )
            return rules.apply(config, breaker, report, call.at)
        case State.HALF_OPEN:
            asked = rules.apply(config, breaker, AskProbe("probe"), call.at)
            settled = rules.apply(
                config,
                asked.breaker,
                SettleProbe("probe", asked.breaker.epoch, _result(config, call, failed=failed)),
                call.at,
            )
            return replace(settled, transitions=asked.transitions + settled.transitions)


def _failed(config: BreakerConfig, call: Call) -> bool:
    return call.failed or (call.seconds is not None and config.is_late(call.seconds))


def _slow(config: BreakerConfig, call: Call) -> int:
    return int(call.seconds is not None and config.is_slow(call.seconds))


def _result(config: BreakerConfig, call: Call, *, failed: bool) -> ProbeResult:
    if failed:
        return ProbeResult.FAILURE
    return ProbeResult.SLOW if _slow(config, call) else ProbeResult.SUCCESS


def _not_closed_ms(transitions: Iterable[Transition], end: int) -> int:
    total, opened = 0, None
    for told in transitions:
        if told.to_state is State.CLOSED and opened is not None:
            total, opened = total + told.at - opened, None
        elif told.to_state is not State.CLOSED and opened is None:
            opened = told.at
    return total if opened is None else total + end - opened

"""What a breaker would have done: recorded outcomes through the rules, under a proposed configuration.

A replay takes the outcomes as they were. What it cannot know: how callers would have acted on a refusal, and
how the service would have fared with the refused calls kept from it. Each outcome counts at once and a probe
takes no time. Calls that name their host meet what holds for that host, which is there from its first call to
its last; those that name none are all of one. Of the calls on a ramp the right share is let through, evenly
spread, where a real breaker draws lots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from regrow.breakers import quorum, rules
from regrow.breakers.ramp import Ramp
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
    """A call that was made: when it ended (ms since 1970), whether it failed, how many seconds it took.

    ``host``: where it was made, as :func:`regrow.breakers.quorum.host_name` writes it; empty: not recorded.
    """

    at: int
    failed: bool
    seconds: float | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it. ``refused_failures``: failed calls that would not have been made.

    ``refused_successes``: good ones that would not have been made either. ``turned_away``: those among both
    that came too early on a ramp. ``not_closed_ms``: time open or half-open for the fleet, to the last call.
    ``state``: the fleet's after the last call.
    """

    calls: int
    failures: int
    refused_failures: int
    refused_successes: int
    turned_away: int
    transitions: tuple[Transition, ...]
    not_closed_ms: int
    state: State

    @property
    def openings(self) -> list[Transition]:
        """What opened it for the fleet when it was closed, without the probes that failed."""
        return [told for told in self.transitions if told.from_state is State.CLOSED and not told.reporter]

    @property
    def openings_alone(self) -> list[Transition]:
        """What opened it for one host alone."""
        return [told for told in self.transitions if told.from_state is State.CLOSED and told.reporter]


def replay(config: BreakerConfig, calls: Iterable[Call]) -> Replay:
    """The calls, in the order of their times, under ``config``; the breaker begins closed."""
    ordered = sorted(calls, key=lambda call: call.at)
    breaker, told, present, lots = Breaker(), list[Transition](), _Presence(ordered), _Lots(config.ramp)
    failures = refused_failures = refused_successes = turned_away = 0
    for call in ordered:
        failed = _failed(config, call)
        failures += failed
        breaker = present.noted(breaker, call.at)
        if lots.turn_away(quorum.seen_from(breaker, call.host), call.at):
            turned_away += 1
            step = Step(breaker, accepted=False)
        else:
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
        turned_away=turned_away,
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


class _Presence:
    """The hosts of the recorded calls. Between two calls their processes look in, as they do in truth."""

    def __init__(self, ordered: Sequence[Call]) -> None:
        self._spans: dict[str, tuple[int, int]] = {}
        for call in ordered:
            if call.host:
                first, _ = self._spans.get(call.host, (call.at, 0))
                self._spans[call.host] = (first, call.at)
        self._noted_at = -math.inf

    def noted(self, breaker: Breaker, at: int) -> Breaker:
        """The breaker with every host noted that is there at ``at``."""
        if at - self._noted_at < quorum.SEEN_EVERY_MS:
            return breaker
        self._noted_at = at
        for host, (first, last) in self._spans.items():
            if first <= at <= last:
                breaker = quorum.noted(breaker, quorum.tag(breaker, host), at)
        return breaker


class _Lots:
    """Who is let through while calls come back: the share that is right, as evenly spread as can be."""

    STEP = (math.sqrt(5) - 1) / 2  # multiples of the golden ratio fill 0..1 evenly, however many there are

    def __init__(self, ramp: Ramp) -> None:
        self._ramp = ramp
        self._drawn = 0

    def turn_away(self, seen: Breaker, at: int) -> bool:
        """Whether this call comes too early; ``seen``: the breaker as its host sees it."""
        if not seen.closed_at or seen.state is not State.CLOSED or seen.override is not None:
            return False
        share = self._ramp.share((at - seen.closed_at) / 1000)
        if share >= 1:
            return False
        self._drawn += 1
        return self._drawn * self.STEP % 1 >= share


def _meet(config: BreakerConfig, breaker: Breaker, call: Call, *, failed: bool) -> Step:
    """What the call does to the breaker; not accepted when the breaker refuses it."""
    seen = quorum.seen_from(breaker, call.host)
    match rules.shown_state(seen, call.at):
        case State.OPEN:
            return Step(breaker, accepted=False)
        case State.CLOSED:
            report = Report(seen.epoch, int(not failed), int(failed), int(failed), slow=_slow(config, call))
            return rules.apply(config, breaker, report, call.at, call.host)
        case State.HALF_OPEN:
            asked = rules.apply(config, breaker, AskProbe("probe"), call.at, call.host)
            epoch = quorum.seen_from(asked.breaker, call.host).epoch
            settled = rules.apply(
                config,
                asked.breaker,
                SettleProbe("probe", epoch, _result(config, call, failed=failed)),
                call.at,
                call.host,
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
        if told.reporter:
            continue
        if told.to_state is State.CLOSED and opened is not None:
            total, opened = total + told.at - opened, None
        elif told.to_state is not State.CLOSED and opened is None:
            opened = told.at
    return total if opened is None else total + end - opened

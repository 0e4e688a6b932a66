"""What one process knows of one breaker: its gate, the outcomes not yet reported, the probes it holds.

Callers touch a cell without a lock: they read the gate, append to a deque, pop from a deque. One turn at a
time (``Cell.turn``) talks to a store; it runs on the reporter's thread, or inline when the store is local.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from regrow.breakers import quorum, rules
from regrow.breakers.declared import Declared, settled
from regrow.breakers.ramp import Ramp
from regrow.breakers.rules import (
    LEASE_MS,
    Breaker,
    BreakerConfig,
    OverrideKind,
    ProbeResult,
    Report,
    Restore,
    SettleProbe,
    State,
)
from regrow.breakers.store import Outcome

OUTCOMES = 4096  # kept between two reports; a window that is larger than this is not
BACKLOG = 64  # reports kept for a Redis that is away
LEASE = LEASE_MS / 1000
RENEW_EVERY = LEASE / 3
ASK_EVERY = 0.1  # seconds between two tries to get a lease
INTEREST = 2.0  # seconds for which a caller that was refused stands for more to come
STALE_LOOK_EVERY = 0.05  # seconds between two looks that were asked for by what others published
PROBE_CAP = 60.0  # seconds a probe may run when the breaker has no timeout


# An outcome as a gate notes it: the seconds it took, or, where it is no plain success, the sum of what is
# remarkable in it and the seconds.
Noted = float | tuple[int, float]
FAILED = 1
SLOW = 2
UNCOUNTED = frozenset({OverrideKind.FORCED_OPEN, OverrideKind.DISABLED})


class Gate:
    """The state as last heard. A new epoch makes a new gate, so an outcome can only count for its own.

    A gate that has not ``heard`` anything yet lets calls through like a closed one, but by the slow way,
    which sees to it that the store is asked.
    """

    __slots__ = (
        "admits",
        "epoch",
        "heard",
        "outcomes",
        "override",
        "ramp",
        "ramp_began",
        "record",
        "reopens_at",
        "state",
    )

    def __init__(
        self,
        state: State,
        epoch: int,
        override: OverrideKind | None = None,
        reopens_at: float = math.inf,
        *,
        heard: bool = True,
    ) -> None:
        self.state = state
        self.epoch = epoch
        self.override = override
        self.reopens_at = reopens_at
        self.heard = heard
        self.admits = heard and state is State.CLOSED
        self.ramp: Ramp | None = None  # how calls come back, since ``ramp_began`` (monotonic seconds)
        self.ramp_began = 0.0
        self.outcomes: deque[Noted] = deque(maxlen=OUTCOMES)
        # A bound C method: one call, atomic, no lock.
        self.record: Callable[[Noted], None] = _uncounted if override in UNCOUNTED else self.outcomes.append

    @classmethod
    def of(cls, breaker: Breaker, reopens_at: float) -> Gate:
        return cls(
            breaker.state, breaker.epoch, breaker.override.kind if breaker.override else None, reopens_at
        )

    def rise(self, ramp: Ramp, began: float, now: float) -> None:
        """Let calls through little by little, the slow way, until the ramp is over."""
        if now - began < ramp.seconds:
            self.ramp, self.ramp_began = ramp, began
            self.admits = False

    def turned_away(self, now: float, chance: float) -> float:
        """Seconds until a call with this ``chance`` (0..1, drawn anew for each) is let through; 0 for now.

        Those who are turned away come back spread over the ramp, as the share grows that would include them.
        """
        ramp = self.ramp
        if ramp is None:
            return 0.0
        elapsed = now - self.ramp_began
        if elapsed >= ramp.seconds:
            self.ramp, self.admits = None, True
            return 0.0
        return 0.0 if chance < ramp.share(elapsed) else max(0.001, ramp.reaches(chance) - elapsed)

    def adopt(self, unheard: Gate) -> None:
        """Count what was admitted before anything was heard: it was admitted under this, unknowingly."""
        if unheard.override not in UNCOUNTED and self.override not in UNCOUNTED:
            self.outcomes = unheard.outcomes
            self.record = unheard.record

    def shows(self, breaker: Breaker) -> bool:
        return (
            self.heard
            and self.epoch == breaker.epoch
            and self.state is breaker.state
            and self.override is (breaker.override.kind if breaker.override else None)
        )

    def state_at(self, now: float) -> State:
        """The state to show: open past its time is half-open."""
        return State.HALF_OPEN if self.state is State.OPEN and now >= self.reopens_at else self.state

    def drain(self) -> tuple[Report, list[float]]:
        """The outcomes since the last drain, and the seconds that each took."""
        successes = failures = run = slow = 0
        durations = []
        for _ in range(len(self.outcomes)):
            outcome = self.outcomes.popleft()
            if isinstance(outcome, tuple):
                remarks, took = outcome
                durations.append(took)
                slow += remarks >= SLOW
                if remarks & FAILED:
                    failures += 1
                    run += 1
                    continue
            else:
                durations.append(outcome)
            successes += 1
            run = 0
        return Report(self.epoch, successes, failures, run, slow=slow), durations


def _reopens_at(left: int | None, now: float) -> float:
    """When a probe may be tried, in monotonic seconds; ``left``: ms from ``now`` on, None when nobody knows.

    A time that is over is over for good, so that no caller who read its clock just before finds it ahead.
    """
    if left is None:
        return math.inf
    return now + left / 1000 if left > 0 else -math.inf


def _uncounted(_outcome: Noted) -> None:
    """The outcome of a call while the breaker is switched off."""


class Refusals:
    """How many callers were refused: counted by all threads without a lock, drained by one."""

    __slots__ = ("_read", "note")

    def __init__(self) -> None:
        self.note = count().__next__  # one C call, atomic
        self._read = 0

    def drain(self) -> int:
        """The refusals since the last drain."""
        noted = self.note()  # which counts this reading too
        new, self._read = noted - self._read, noted + 1
        return new


@dataclass(slots=True)
class Probe:
    """A lease that this process holds. Times are monotonic seconds."""

    token: str
    epoch: int
    valid_until: float
    renewed_at: float
    give_up_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Batch:
    """A report that the fleet has not taken yet, and when it was made."""

    report: Report
    made_at: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The breaker is decided here for want of its shard of the store, since ``at`` (monotonic seconds)."""

    shard: str
    at: float


class Cell:
    """One breaker in one process."""

    def __init__(self, name: str, config: BreakerConfig, host: str = "") -> None:
        """``host``: what this process runs on, as the store's breakers note it."""
        self.name = name
        self.host = host
        self.config = config
        self.gate = Gate(State.CLOSED, 0, heard=False)
        # What the shared store said last, and when: what to go on from without it, or to tell it again.
        self.fleet: Outcome | None = None
        self.fleet_at = -math.inf
        self.announced: tuple[int, State] = (0, State.CLOSED)  # what listeners were told last
        self.listeners: list[Callable[[Any], object]] = []
        self.given: Mapping[str, Any] = {}  # the settings that this process's code gives
        self.declared: Declared | None = None  # what regrow.toml says, as heard last
        self.above: Cell | None = None  # whose settings it has, where it is the cell of a key
        self.holders: float = math.inf  # breakers of passing keys that use it; infinite: it stays
        self._clear()

    @property
    def config(self) -> BreakerConfig:
        return self._config

    @config.setter
    def config(self, config: BreakerConfig) -> None:
        self._config = config
        self.unremarkable = config.unremarkable  # ready for the hot path
        self.timeout = config.timeout

    def adopt(self, declared: Declared | None) -> None:
        """Take over what is declared where the code says nothing. None: the store has nothing to tell."""
        if self.above is not None:
            if self.config is not self.above.config:
                self.config = self.above.config
        elif declared is not None and declared != self.declared:
            self.declared = declared
            self.config = settled(self.name, self.given, declared)

    def _clear(self) -> None:
        self.turn = threading.Lock()
        self.telling = threading.Lock()
        self.heard_at = -math.inf
        self.stale = False  # somebody told of a change that has not been looked at
        self.attended_at = -math.inf  # when that was done last; monotonic seconds
        self.lost: Lost | None = None
        self.parked: deque[Probe] = deque()
        self.running: dict[str, Probe] = {}
        self.settled: deque[SettleProbe] = deque()
        self.probed: deque[float] = deque(maxlen=BACKLOG)  # seconds that settled probes took
        self.refusals = Refusals()
        self.backlog: deque[Batch] = deque(maxlen=BACKLOG)
        self.sequence = 0
        self.waiters: deque[Future[Probe | None]] = deque()
        self.wanted_until = 0.0
        self.asked_at = -math.inf
        self.refused = False
        self.prefetched = False

    def numbered(self, now: float) -> int:
        """The number of a report made at ``now``, above all before it: by the clock, in microseconds.

        A cell that is dropped and made anew, for a passing key, goes on above what it had told.
        """
        self.sequence = max(self.sequence + 1, math.floor(now * 1_000_000))
        return self.sequence

    def begin_anew(self) -> None:
        """As if nobody had called yet: nothing gathered, nothing heard, no state."""
        self.gate = Gate(State.CLOSED, 0, heard=False)
        self.fleet, self.fleet_at = None, -math.inf
        self.announced = (0, State.CLOSED)
        self.declared = None
        self.config = self.above.config if self.above is not None else BreakerConfig(**self.given)
        self._clear()

    def after_fork(self) -> None:
        """In a child: what was gathered, held and awaited is the parent's."""
        self.unhear()
        self._clear()

    def unhear(self) -> None:
        """Go on from the same state, but ask before anything more is counted."""
        gate = self.gate
        self.gate = Gate(gate.state, gate.epoch, gate.override, gate.reopens_at, heard=False)

    # What callers do ----------------------------------------------------------------------------------

    def take_probe(self, now: float) -> Probe | None:
        """A parked lease that is still good, now in use."""
        probe = self._unpark(now)
        if probe is not None:
            self.use(probe, now)
        return probe

    def _unpark(self, now: float) -> Probe | None:
        while self.parked:
            try:
                probe = self.parked.popleft()
            except IndexError:  # another thread was faster
                return None
            if now < probe.valid_until:
                return probe
        return None

    def use(self, probe: Probe, now: float) -> None:
        probe.give_up_at = now + (self.config.timeout or PROBE_CAP) + LEASE
        self.running[probe.token] = probe

    def settle_probe(self, probe: Probe, result: ProbeResult, took: float) -> None:
        self.running.pop(probe.token, None)
        if result is not ProbeResult.RELEASE:
            self.probed.append(took)
        self.settled.append(SettleProbe(probe.token, probe.epoch, result))

    def retry_after(self, now: float) -> float:
        """Seconds until a call may be worth trying; while others probe, a little while."""
        gate = self.gate
        if gate.reopens_at == math.inf:
            return self.config.recovery_timeout
        if now < gate.reopens_at:
            return gate.reopens_at - now
        return min(1.0, self.config.recovery_timeout)

    # What a turn does ---------------------------------------------------------------------------------

    def hear(self, outcome: Outcome, now: float) -> None:
        """Take over what a store said; a new epoch or state makes a new gate."""
        self.heard_at = now
        breaker = quorum.seen_from(outcome.breaker or Breaker(), self.host)
        reopens_at = _reopens_at(rules.retry_after_ms(breaker, outcome.now), now)
        if self.gate.shows(breaker):
            # An answer tells it too late by as long as it was on its way, and never too early.
            self.gate.reopens_at = min(self.gate.reopens_at, reopens_at)
            return
        gate = Gate.of(breaker, reopens_at)
        if breaker.closed_at and breaker.override is None:
            gate.rise(self.config.ramp, now - (outcome.now - breaker.closed_at) / 1000, now)
        if not self.gate.heard:
            gate.adopt(self.gate)
        self.gate = gate
        self.parked.clear()
        self.prefetched = False
        if breaker.state is State.CLOSED:
            self.refused = False
            self.wanted_until = 0.0

    def asks_for_probe(self, now: float) -> bool:
        """Whether a lease should be asked for now: a caller was refused of late, or while it was open."""
        gate = self.gate
        if gate.state is State.CLOSED or now < gate.reopens_at or now - self.asked_at < ASK_EVERY:
            return False
        if len(self.parked) + len(self.running) >= self.config.half_open_max_calls:
            return False
        if self.refused and not self.prefetched:
            self.prefetched = True
            self.wanted_until = max(self.wanted_until, now + INTEREST)
        return now < self.wanted_until

    @property
    def is_closed(self) -> bool:
        return self.gate.heard and self.gate.state is State.CLOSED

    def serve_waiters(self, now: float) -> None:
        """Hand leases to callers that wait for one; send all on when the breaker has closed.

        Who finds none waits on: a parked lease may be too old, or go to a caller that did not wait.
        """
        for _ in range(len(self.waiters)):
            waiter = self.waiters.popleft()  # callers only append
            closed = self.is_closed
            probe = None if closed else self._unpark(now)
            if probe is None and not closed:
                if not waiter.cancelled():
                    self.waiters.append(waiter)
            elif waiter.set_running_or_notify_cancel():
                if probe is not None:
                    self.use(probe, now)
                waiter.set_result(probe)
            elif probe is not None:
                self.parked.appendleft(probe)

    @property
    def known(self) -> Breaker:
        """The breaker as the fleet's store last told it, its hosts included."""
        return self.fleet.breaker if self.fleet and self.fleet.breaker else Breaker()

    @property
    def fleet_epoch(self) -> int:
        """The epoch under which the fleet's store takes this host's outcomes, as far as is known."""
        return quorum.seen_from(self.known, self.host).epoch

    def lost_by(self, outcome: Outcome) -> bool:
        """Whether the fleet's store has forgotten what it told this process before."""
        return (outcome.breaker.epoch if outcome.breaker else 0) < self.known.epoch

    def last_known(self, now: float) -> list[Restore]:
        """The fleet's state as this process last heard it, and its host's own, for a store that forgot."""
        assert self.fleet is not None  # noqa: S101 - lost_by said so
        then = self.fleet.now + math.floor((now - self.fleet_at) * 1000)
        fleet, own = self.known, quorum.seen_from(self.known, self.host)
        told = [self._told(fleet, then)]
        return told if own is fleet else [*told, replace(self._told(own, then), alone=True)]

    @staticmethod
    def _told(breaker: Breaker, then: int) -> Restore:
        override = breaker.override
        return Restore(
            epoch=breaker.epoch,
            state=breaker.state,
            open_ms=max(0, breaker.open_until - then),
            override=override.kind if override else None,
            actor=override.actor if override else "",
            reason=override.reason if override else "",
            override_ms=max(1, override.until - then) if override and override.until else 0,
            closed_ms=max(0, then - breaker.closed_at) if breaker.closed_at else None,
        )

    def due_at(self) -> float:
        """When the next turn is needed at the latest, besides the regular look; monotonic seconds."""
        held = [probe.renewed_at + RENEW_EVERY for probe in (*self.parked, *self.running.values())]
        if self.gate.state is State.OPEN and self.refused and not self.prefetched:
            held.append(self.gate.reopens_at)
        if self.stale:
            held.append(self.looks_again_at)
        return min(held, default=math.inf)

    @property
    def looks_again_at(self) -> float:
        """When the next look is allowed, whatever was published: a flood is a look now and then."""
        return self.attended_at + STALE_LOOK_EVERY

    def attend(self, now: float) -> None:
        """A turn begins, in which what was published is looked at."""
        if self.stale:
            self.stale = False
            self.attended_at = now

    @property
    def untold(self) -> int:
        """How many outcomes the fleet's store has not taken yet."""
        kept = sum(batch.report.successes + batch.report.failures for batch in self.backlog)
        return kept + len(self.gate.outcomes)

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it: nothing to tell, nothing held, nobody who waits."""
        return not (self.busy or self.running or self.parked or self.backlog or self.waiters)

    @property
    def busy(self) -> bool:
        """Whether there is something to tell the store at once."""
        return bool(self.gate.outcomes or self.settled)

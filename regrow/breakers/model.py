"""What the rules of a breaker speak of: its state, the events that happen to it, the transitions they bring.

Frozen data only. All times are integer milliseconds of one clock, the store's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Slot:
    """The calls that one host reported within one part of the window, which began at ``start``.

    ``slow``: how many of them, failed or not, were slow. ``host``: the reporter; empty: not told.
    """

    start: int
    successes: int
    failures: int
    slow: int = 0
    host: str = ""


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
    """The whole state of one breaker: what holds for the fleet, and what its hosts have of their own.

    ``minted``: the highest epoch of any transition, a host's own included. ``closed_at``: when it closed
    after it had refused; 0 when it had not. ``run``: failures in a row, in order of arrival.
    """

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
    minted: int = 0
    closed_at: int = 0
    hosts: tuple[Host, ...] = ()

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
class Host:
    """A reporter: a host or container whose processes hold the breaker.

    ``seen``: when a process of it last spoke (a second coarse). ``shared``: its part in the fleet's run.
    ``own``: what it has of its own. ``own.run`` is its failures in a row; the rest counts only while its
    epoch is above the fleet's, so that every transition of the fleet ends what its hosts had of their own.
    """

    name: str
    seen: int
    shared: int = 0
    own: Breaker = Breaker()


@dataclass(frozen=True, slots=True)
class Report:
    """A process's outcomes since its last report, all admitted under ``epoch``.

    ``run`` is the length of the run of failures that the batch ends with; ``slow`` counts the slow among all
    calls, failed or not. ``process`` and ``sequence`` let a store ignore a report that it has counted.
    """

    epoch: int
    successes: int
    failures: int
    run: int
    process: str = ""
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

    With ``over`` it is obeyed only while the breaker is at this epoch, so that nothing newer is undone.
    ``after`` is set when a command that stood before is put back: the epoch it had, which the new one must
    exceed.
    """

    kind: OrderKind
    actor: str
    reason: str
    expires_ms: int = 0
    over: int | None = None
    after: int = 0


@dataclass(frozen=True, slots=True)
class Restore:
    """What a process last knew, for a store that forgot. Times are what is left, never a caller's clock.

    ``closed_ms``: how long ago it closed after it had refused, for the ramp; None when it had not.
    ``alone``: it is what its host had of its own.
    """

    epoch: int
    state: State
    open_ms: int = 0
    override: OverrideKind | None = None
    actor: str = ""
    reason: str = ""
    override_ms: int = 0
    alone: bool = False
    closed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """See the state. ``advance``: record as half-open what was open for its whole time with no caller."""

    advance: bool = False


Event = Report | AskProbe | RenewProbe | SettleProbe | Order | Restore | Look


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state. ``previous`` is the epoch before it: by it one sees whether one is missing.

    ``reporter``: the host whose own change it is, in a chain of ``previous`` of its own; empty: the fleet's.
    """

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
    reporter: str = ""

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

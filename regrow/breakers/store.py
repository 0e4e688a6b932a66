"""Where a breaker's state lives: the port, and the store of a single process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from regrow.breakers import rules
from regrow.breakers.rules import Breaker, BreakerConfig, Event, Look, Report, Transition
from regrow.errors import StoreUnavailableError

KEPT_TRANSITIONS = 256
PROCESS_MS = 60_000  # and a window: a late report is told from a repeated one this long


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an event did. ``now`` is the store's clock in ms, which the times in ``breaker`` are told by.

    ``breaker`` is None when one looked at a breaker that the store does not know. ``config`` is what the
    breaker's processes last said.
    """

    breaker: Breaker | None
    now: int
    accepted: bool
    transitions: tuple[Transition, ...]
    config: BreakerConfig
    declared: Mapping[str, Any] | None = None
    """What ``regrow.toml`` says of its settings; None where nobody told the store."""


class Step(NamedTuple):
    """What :meth:`BreakerStore.apply` takes."""

    name: str
    config: BreakerConfig | None
    event: Event
    host: str = ""


class Listening(Protocol):
    """A connection that hears of transitions. Any method raises StoreUnavailableError when it is lost."""

    def follow(self, names: AbstractSet[str]) -> None:
        """Hear of these breakers from now on, and of no others."""

    def next(self, timeout: float) -> tuple[str, int] | None:
        """The next breaker that changed, and its epoch; None when ``timeout`` seconds brought nothing."""

    def close(self) -> None: ...


class BreakerStore(Protocol):
    """Breakers by name. Each method is one atomic step; StoreUnavailableError when the store is away."""

    remote: bool
    """Whether a step may wait for a network."""

    def apply(self, name: str, config: BreakerConfig | None, event: Event, host: str = "") -> Outcome:
        """Let ``event`` happen to the breaker. ``config=None``: under the settings it was last used with.

        ``host``: what the process runs on that the event comes from, which is alive herewith; empty: somebody
        who only looks on, to whom a breaker that nobody used is not there.
        """

    def apply_all(self, steps: Sequence[Step]) -> list[Outcome | StoreUnavailableError]:
        """Many at once, each atomic by itself. In its place an error, where a part of the store is away."""

    def names(self) -> list[str]:
        """Every breaker that the store knows."""

    def transitions(self, name: str, after: int = 0) -> list[Transition]:
        """The kept transitions with an epoch above ``after``, oldest first."""

    def forget(self, name: str) -> None:
        """Take a breaker whose state is gone off the list of names."""

    def shard(self, name: str) -> str:
        """The part of the store that keeps this breaker: what one is lost with, and found again with."""

    def listen(self) -> Listening | None:
        """A new way to hear of transitions as they happen; None when the store tells nobody."""

    def after_fork(self) -> None:
        """In a child: let go of what belongs to the parent."""


class MemoryStore:
    """The breakers of one process: for a process without Redis, and while Redis is away."""

    remote = False

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        # Wall time once, monotonic from there: an administrator who sets the clock moves no breaker.
        offset = time.time_ns() - time.monotonic_ns()
        self._clock = clock or (lambda: (time.monotonic_ns() + offset) // 1_000_000)
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self._configs: dict[str, BreakerConfig] = {}
        self._history: dict[str, deque[Transition]] = {}
        self._counted: dict[tuple[str, str], tuple[int, int]] = {}

    def apply(self, name: str, config: BreakerConfig | None, event: Event, host: str = "") -> Outcome:
        with self._lock:
            now = self._clock()
            known = self._breakers.get(name)
            config = config or self._configs.get(name) or BreakerConfig()
            if known is None and isinstance(event, Look) and not host:
                return Outcome(None, now, accepted=False, transitions=(), config=config)
            if isinstance(event, Report) and self._has_counted(name, event, now):
                step = replace(rules.apply(config, known or Breaker(), Look(), now, host), accepted=False)
            else:
                step = rules.apply(config, known or Breaker(), event, now, host)
            if isinstance(event, Report) and step.accepted:
                until = now + PROCESS_MS + config.window_ms  # what is older is not sent again
                self._counted[name, event.process] = (event.sequence, until)
            self._breakers[name] = step.breaker
            self._configs[name] = config
            self._history.setdefault(name, deque(maxlen=KEPT_TRANSITIONS)).extend(step.transitions)
            return Outcome(step.breaker, now, step.accepted, step.transitions, config)

    def apply_all(self, steps: Sequence[Step]) -> list[Outcome | StoreUnavailableError]:
        return [self.apply(*step) for step in steps]

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._breakers)

    def transitions(self, name: str, after: int = 0) -> list[Transition]:
        with self._lock:
            return [told for told in self._history.get(name, ()) if told.epoch > after]

    def forget(self, name: str) -> None:
        """Nothing to do: here a name is never without its state."""

    def shard(self, name: str) -> str:  # noqa: ARG002 - all in one
        return ""

    def listen(self) -> None:
        """Nobody else can change what is kept here."""

    def drop(self, name: str) -> None:
        """Forget a breaker that this process has let go of."""
        with self._lock:
            self._breakers.pop(name, None)
            self._configs.pop(name, None)
            self._history.pop(name, None)
            for counted in [known for known in self._counted if known[0] == name]:
                del self._counted[counted]

    def after_fork(self) -> None:
        """In a child: the parent's lock may have been held by a thread that does not exist here."""
        self._lock = threading.Lock()

    def seed(self, name: str, config: BreakerConfig, breaker: Breaker, now: int) -> None:
        """Go on from a state that another store told at its time ``now``."""
        with self._lock:
            self._breakers[name] = rules.shifted(breaker, self._clock() - now)
            self._configs[name] = config

    def _has_counted(self, name: str, report: Report, now: int) -> bool:
        sequence, until = self._counted.get((name, report.process), (0, 0))
        return bool(report.process) and now < until and report.sequence <= sequence

"""An outage of ten minutes on a virtual clock: a service, live traffic, its circuit breaker, and our letters.

The database, the engine, the rules of redrive and of the breaker are the real ones. Played are the clock, the
service (it serves so many calls a second, live ones and letters from one queue, first come first served) and
the worker of its app, which asks the breaker before each call as an app does.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from regrow.breakers import rules
from regrow.breakers.rules import AskProbe, BreakerConfig, Look, ProbeResult, Report, SettleProbe
from regrow.breakers.status import BreakerStatus, status_of
from regrow.breakers.store import MemoryStore
from regrow.database.tables import dead_letter_attempts
from regrow.dead_letters import gates, service
from regrow.dead_letters.classes import Cause
from regrow.dead_letters.pacing import Gate
from regrow.engine import Engine
from regrow.errors import CircuitOpenError
from tests.dead_letters.conftest import Clock, Post, call

SERVICE = "bank"
OUTAGE = 600.0
TICK = 0.2
DOWN = ConnectionRefusedError("bank: connection refused")


@dataclass
class Bank:
    """The service behind its breaker: ``capacity`` calls a second, ``live`` of them asked by live traffic."""

    engine: Engine
    clock: Clock
    post: Post
    live: int
    capacity: int
    breaker: MemoryStore = field(init=False)
    queue: deque[tuple[datetime, str | None]] = field(default_factory=deque)
    sent: Counter[int] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    refused: int = 0
    closed_at: float | None = None

    def __post_init__(self) -> None:
        self.began = self.clock.now
        self.breaker = MemoryStore(lambda: int(self.clock.now.timestamp() * 1000))
        self.config = BreakerConfig(recovery_timeout=60.0)
        self._tokens = itertools.count()
        self._owed = 0.0
        self._taken = 0

    @property
    def elapsed(self) -> float:
        return (self.clock.now - self.began).total_seconds()

    @property
    def is_up(self) -> bool:
        return self.elapsed >= OUTAGE

    def status(self) -> BreakerStatus:
        found = status_of(SERVICE, self.breaker.apply(SERVICE, self.config, Look()))
        return found or status_of(SERVICE, self.breaker.apply(SERVICE, self.config, Report(0, 0, 0, 0)))  # type: ignore[return-value]

    def gates(self, _engine: Engine, services: Sequence[str]) -> Mapping[str, Gate]:
        status = self.status()
        assert list(services) == [SERVICE]
        return {
            SERVICE: Gate(
                status.state,  # type: ignore[arg-type]
                status.retry_after or 0.0,
                status.since,
                gates._failing(self.engine, SERVICE, status),
            )
        }

    def advance(self, seconds: float) -> None:
        """Let time pass in whole ticks, and the service work."""
        for _ in range(max(1, round(seconds / TICK))):
            self.clock.advance(TICK)
            self._arrive()
            self._work()

    def _arrive(self) -> None:
        for attempt in self.post.attempts[self._taken :]:
            self.queue.append((self.clock.now, attempt))
            self.sent[int(self.elapsed)] += 1
        self._taken = len(self.post.home)
        self._owed += self.live * TICK
        while self._owed >= 1:
            self.queue.append((self.clock.now, None))
            self._owed -= 1

    def _work(self) -> None:
        succeeded: list[str] = []
        good = bad = 0
        state, wait = (status := self.status()).state, status.retry_after or 1.0
        for _ in range(min(len(self.queue), round(self.capacity * TICK))):
            asked_at, attempt = self.queue.popleft()
            if state == "closed":
                error = None if self.is_up else DOWN
            else:
                error = CircuitOpenError(SERVICE, wait) if state == "open" else self._probe()
            good, bad = good + (error is None), bad + (error is DOWN)
            if attempt is None:
                self.waited.append((self.clock.now - asked_at).total_seconds())
            elif error is None:
                succeeded.append(attempt)
            else:
                self.refused += isinstance(error, CircuitOpenError)
                service.record_failure(self.engine, attempt, str(error), Cause.of(error))
        if succeeded:
            service.settle_many(self.engine, succeeded)
        if good or bad:
            epoch = self.breaker.apply(SERVICE, self.config, Look()).breaker
            self.breaker.apply(SERVICE, self.config, Report(epoch.epoch if epoch else 0, good, bad, bad))
        if self.closed_at is None and self.elapsed > OUTAGE and self.status().state == "closed":
            self.closed_at = self.elapsed

    def _probe(self) -> Exception | None:
        """One call as the app makes it while the breaker is half-open: refused, failed, or None."""
        status = self.status()
        if status.state == "closed":
            return None if self.is_up else DOWN
        token = f"probe-{next(self._tokens)}"
        lease = self.breaker.apply(SERVICE, self.config, AskProbe(token))
        if not lease.accepted or lease.breaker is None:
            return CircuitOpenError(SERVICE, status.retry_after or 1.0)
        result = ProbeResult.SUCCESS if self.is_up else ProbeResult.FAILURE
        self.breaker.apply(SERVICE, self.config, SettleProbe(token, lease.breaker.epoch, result))
        return None if self.is_up else DOWN


@dataclass(frozen=True)
class Figures:
    """What happened. Times in seconds since the outage began."""

    letters: int
    leased_while_open: int
    burnt: int
    parked: int
    resolved: int
    refused: int
    closed_at: float
    drained_at: float
    sent: Mapping[int, int]
    waits: Sequence[float]

    def most_in(self, seconds: int) -> int:
        """The most letters sent in so many seconds on end."""
        last = max(self.sent)
        return max(sum(self.sent.get(n, 0) for n in range(at, at + seconds)) for at in range(last + 1))

    def longest_wait(self) -> float:
        return max(self.waits)

    def usual_wait(self) -> float:
        return sorted(self.waits)[int(len(self.waits) * 0.95)]


def play(engine: Engine, clock: Clock, post: Post, letters: int, *, live: int, capacity: int) -> Figures:
    """Let ``letters`` fail at the beginning of the outage, redrive every 10 s, until all are settled."""
    bank = Bank(engine, clock, post, live=live, capacity=capacity)
    bank.advance(1.0)  # live traffic opens the breaker
    captures = [call(number, service=SERVICE, error=DOWN) for number in range(letters)]
    for start in range(0, letters, 500):
        service.capture_many(engine, captures[start : start + 500])
    while service.counts(engine)["resolved"] < letters and bank.elapsed < 3600:
        service.process_batch(engine, 200, held=bank.gates, pause=bank.advance, elapsed=lambda: bank.elapsed)
        bank.advance(10.0)
    drained_at = bank.elapsed
    closed_at = bank.closed_at or 0.0
    counts = service.counts(engine)
    attempts = dead_letter_attempts.c
    opened_until = bank.began + timedelta(seconds=closed_at)
    with engine.database.snapshot() as connection:
        early, failed = (
            connection.execute(
                sa.select(sa.func.count()).select_from(dead_letter_attempts).where(which)
            ).scalar_one()
            for which in (attempts.leased_at < opened_until, attempts.outcome.in_(["failed", "no_outcome"]))
        )
    assert bank.status().state == rules.State.CLOSED
    return Figures(
        letters=letters,
        leased_while_open=early,
        burnt=failed,
        parked=counts["quarantined"],
        resolved=counts["resolved"],
        refused=bank.refused,
        closed_at=closed_at,
        drained_at=drained_at,
        sent=bank.sent,
        waits=bank.waited,
    )

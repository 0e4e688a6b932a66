"""The life of a dead letter, as values: facts in, decision out. No clock, no driver, no randomness.

pending -> leased -> dispatched -> resolved
            |            |------> pending | quarantined     (its attempt failed, or said nothing)
            |-------------------> pending | quarantined     (released, lease run out; poison)
quarantined -> pending (a person retries it)     any but resolved -> discarded (a person, with a reason)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from regrow.dead_letters.captured import Priority
from regrow.dead_letters.classes import STRATEGIES
from regrow.failures import FailureClass
from regrow.retries import RetryPolicy


class State(StrEnum):
    PENDING = "pending"
    LEASED = "leased"
    DISPATCHED = "dispatched"
    RESOLVED = "resolved"
    QUARANTINED = "quarantined"
    DISCARDED = "discarded"


SETTLED = frozenset({State.RESOLVED, State.DISCARDED})
UNSETTLED = frozenset(State) - SETTLED


class AttemptOutcome(StrEnum):
    SUCCEEDED = "succeeded"
    SUCCEEDED_AGAIN = "succeeded_again"  # a copy of a letter that was settled already
    FAILED = "failed"
    REFUSED = "refused"  # a circuit breaker refused it, or nobody was there: costs nothing
    RELEASED = "released"  # the broker was away: costs nothing
    LEASE_EXPIRED = "lease_expired"  # its worker died with it in hand
    NO_OUTCOME = "no_outcome"  # dispatched, and nothing heard until the deadline
    STALE = "stale"  # a failure told by an attempt that is no longer the current one


@dataclass(frozen=True)
class Next:
    """Where a letter goes from here. ``due_at`` is None unless it is pending."""

    state: State
    due_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Past:
    """What a letter has behind it. ``age``: seconds since we have it.

    ``redrives``: those that failed and counted. ``waits``: failures in a row that cost nothing.
    ``of_class``: failures of the class that it failed with now. All with this one.
    """

    redrives: int
    waits: int
    of_class: int
    age: float


@dataclass(frozen=True)
class Patience:
    """How long to go on with a letter. ``backoff.max_retries`` is how many redrives it may have.

    ``min_age``: seconds below which used-up redrives do not quarantine it, because an outage uses them up in
    minutes. ``free``: seconds after which failures that cost nothing begin to count.
    """

    backoff: RetryPolicy
    min_age: float
    free: float


def after_failure(
    cause: FailureClass, retry_after: float | None, past: Past, patience: Patience, now: datetime, rng: Random
) -> Next:
    """After a failure of class ``cause``: wait for the next redrive, or for a person.

    Dead is who has used up its redrives *and* is old enough, or whom no redrive can help.
    """
    strategy, allowed = STRATEGIES[cause], patience.backoff.max_retries
    if allowed == 0 and past.redrives == 0:
        return Next(State.QUARANTINED, reason="failed after 0 of 0 redrives")
    if strategy.most is not None and past.of_class >= strategy.most:
        return Next(State.QUARANTINED, reason=_HOPELESS[cause])
    if costs_attempt(cause, past.age, patience) and past.redrives >= allowed and past.age >= patience.min_age:
        return Next(State.QUARANTINED, reason=f"failed after {past.redrives} of {allowed} redrives")
    if cause is FailureClass.BREAKER_REFUSED:
        tries = 1  # the breaker says how long
    else:
        tries = past.redrives + 1 if strategy.costs_attempt else past.waits
    seconds = patience.backoff.spread(tries, rng)
    if retry_after is not None:
        # Never sooner than asked; a little later each in its own way, or they would return as one.
        seconds = max(seconds, retry_after * rng.uniform(1.0, 1.2))
    return Next(State.PENDING, due_at=now + timedelta(seconds=min(seconds, _LONGEST_WAIT)))


def costs_attempt(cause: FailureClass, age: float, patience: Patience) -> bool:
    """Whether this failure uses up a redrive of a letter that is ``age`` seconds old."""
    return STRATEGIES[cause].costs_attempt or age >= patience.free


_HOPELESS = {
    FailureClass.PERMANENT: "its error is permanent: another redrive would end the same way",
    FailureClass.POISON: "poison: its worker died twice while it ran",
}
_LONGEST_WAIT = 86_400.0  # seconds, whatever the other side asks for


PENALTY: Mapping[Priority, float] = {"high": 0.0, "normal": 300.0, "low": 3600.0}
"""Seconds by which a letter stands behind others that are due at the same time: bounded, so none starves."""
MOST_AGEING = 600.0
AGEING = 0.1
"""A letter gains a tenth of its age in rank, ``MOST_AGEING`` seconds at most: what fails again and again is
not for ever overtaken by what failed just now."""


def rank_of(due_at: datetime, priority: Priority, age: float) -> datetime:
    """Where a letter stands among the due ones of its service, the earliest first. ``age`` in seconds."""
    gained = min(MOST_AGEING, AGEING * max(0.0, age))
    return due_at + timedelta(seconds=PENALTY[priority] - gained)


MOST_CRASHES = 3
"""So many redriving workers may die with a letter in hand, in a row. The first time it was one of a batch,
and perhaps another one's fault; from then on it goes alone."""


def after_lease(crashes: int, now: datetime) -> Next:
    """After a lease ran out: due again at once, unless it kills who takes it. ``crashes``: with this one."""
    if crashes < MOST_CRASHES:
        return Next(State.PENDING, due_at=now)
    why = f"poison: {crashes} redriving workers in a row died before they had sent it, the last with it alone"
    return Next(State.QUARANTINED, reason=why)


def together(crashes: Sequence[int]) -> int:
    """How many candidates go in one batch, by the workers that died with each: a suspect goes alone."""
    if crashes and crashes[0]:
        return 1
    return next((place for place, number in enumerate(crashes) if number), len(crashes))


def may_publish(now: datetime, lease_until: datetime | None, lease: float) -> bool:
    """Whether enough of a lease is left to publish under it: a slow broker must not outlive the lease.

    ``lease`` in seconds. The last 15 s of it, or half of a short one, are for the broker's confirmation.
    """
    return lease_until is not None and now < lease_until - timedelta(seconds=min(15.0, lease / 2))


def next_generation(state: State | None, generation: int, most: int) -> tuple[int, str | None] | None:
    """What a new occurrence of a key becomes: None joins the live letter, else (generation, quarantine).

    ``state`` and ``generation`` are those of the key's newest letter (None: there is none). A key that
    comes back for ever ends in quarantine instead of a loop.
    """
    if state is None:
        return 1, None
    if state not in SETTLED:
        return None
    if generation >= most:
        return generation + 1, f"this message has been settled {generation} times and keeps coming back"
    return generation + 1, None

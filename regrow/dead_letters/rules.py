"""The life of a dead letter, as values: facts in, decision out. No clock, no driver, no randomness.

pending -> leased -> dispatched -> resolved
            |            |------> pending | quarantined     (its attempt failed, or said nothing)
            |-------------------> pending                   (held, released, lease run out)
quarantined -> pending (a person retries it)     any but resolved -> discarded (a person, with a reason)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from regrow.errors import RegrowError
from regrow.retries import RetryPolicy


class State(StrEnum):
    PENDING = "pending"
    LEASED = "leased"
    DISPATCHED = "dispatched"
    RESOLVED = "resolved"
    QUARANTINED = "quarantined"
    DISCARDED = "discarded"


# What the policy is asked about: that it failed. Telling errors apart by class comes before the capture.
_FAILED = RegrowError("the message failed")

SETTLED = frozenset({State.RESOLVED, State.DISCARDED})
UNSETTLED = frozenset(State) - SETTLED


class AttemptOutcome(StrEnum):
    SUCCEEDED = "succeeded"
    SUCCEEDED_AGAIN = "succeeded_again"  # a copy of a letter that was settled already
    FAILED = "failed"
    HELD = "held"  # the service's breaker is open: costs nothing
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


def after_failure(redrives: int, policy: RetryPolicy, now: datetime, rng: Random) -> Next:
    """After ``redrives`` redrives that failed (0: just captured): wait for the next, or for a person.

    ``policy.max_retries`` is how many redrives the letter may have.
    """
    seconds = policy.decide(redrives + 1, _FAILED, 0.0, rng)
    if seconds is None:
        return Next(State.QUARANTINED, reason=f"failed after {redrives} of {policy.max_retries} redrives")
    return Next(State.PENDING, due_at=now + timedelta(seconds=seconds))


def not_before(after: Next, moment: datetime) -> Next:
    """The same decision, no sooner than ``moment``: a receiver has asked for a pause."""
    return after if after.due_at is None else replace(after, due_at=max(after.due_at, moment))


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

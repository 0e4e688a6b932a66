"""The rules of recovery: a course, an event and the time in; the next course and what is to be told out.

The life of a failure. A service is seen *down*: an opening begins, once, whatever told of it. Its handler is
tried at once, then after a pause, then after a longer one; after ``max_attempts`` it is *locked* and a person
is called. When the service is seen well the opening is over: attempts and lock are cleared. One that fails
again within a cooldown of coming back did not come back: its attempts go on where they were, so that a
handler which mends for half a minute at a time locks as well. A person's reset forgets them.

Each attempt runs under a lease as long as it may take. A worker that died leaves it to expire; the attempt is
then lost, and counts.

Nothing here reads a clock, a store or a random number.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from regrow.recovery.model import (
    ACTOR,
    Action,
    Condition,
    Course,
    Decision,
    Envelope,
    Lease,
    Order,
    Outcome,
    Seen,
    Step,
    Told,
)

_NOT_DOWN = {Condition.UNKNOWN: "nothing is known of it now", Condition.WELL: "it is well again"}


def observe(course: Course, seen: Seen, envelope: Envelope) -> Step:
    """The service was looked at. What is held by a person, or not known, changes nothing."""
    if seen.condition is Condition.DOWN and course.opening is None:
        return _open(course, seen, envelope)
    if course.opening is not None and seen.is_over(course.trigger):
        by = "itself" if not seen.closed_by else "a test" if seen.closed_by == ACTOR else seen.closed_by
        closed = _closed(course, seen.at, by)
        person = seen.closed_by not in {"", ACTOR}
        return replace(closed, course=replace(closed.course, attempts=0, next_at=None)) if person else closed
    return Step(course)


def decide(  # noqa: PLR0911 - one return a reason
    course: Course, envelope: Envelope, now: datetime, *, seen: Condition, blocked_by: str | None = None
) -> Decision:
    """What to do now. ``blocked_by``: a service that this one depends on, and that is to be mended first."""
    if course.lease is not None:
        return Decision(Action.WAIT, f"an attempt is under way at {course.lease.owner}", course.lease.until)
    if course.ordered is not None:
        return Decision(Action.ATTEMPT, f"ordered by {course.ordered.actor}")
    if course.opening is None:
        return Decision(Action.REST)
    if seen is Condition.HELD:
        return Decision(Action.WAIT, "a person holds its breaker, or it is in maintenance")
    if course.locked_at is not None:
        return Decision(Action.LOCKED, f"{course.attempts} attempts did not help")
    if seen in _NOT_DOWN:
        return Decision(Action.WAIT, _NOT_DOWN[seen])
    if course.attempts >= envelope.max_attempts:
        return Decision(Action.WAIT, "the dry run has been written down")
    if blocked_by is not None:
        return Decision(Action.WAIT, f"{blocked_by} comes first")
    if course.next_at is not None and now < course.next_at:
        return Decision(Action.WAIT, "the pause between two attempts", course.next_at)
    return Decision(Action.ATTEMPT, course.reason)


def begin(course: Course, token: str, owner: str, now: datetime, longest: float) -> Step:
    """An attempt begins, for at most ``longest`` seconds. Refused while another one is under way."""
    if course.lease is not None:
        return Step(course, accepted=False)
    by_hand = course.ordered is not None
    lease = Lease(token, owner, now + timedelta(seconds=longest), by_hand)
    attempts = course.attempts if by_hand else course.attempts + 1
    return Step(replace(course, lease=lease, ordered=None, attempts=attempts))


def finish(course: Course, token: str, outcome: Outcome, envelope: Envelope, now: datetime) -> Step:
    """An attempt ended. Refused when its lease is over: somebody else may have begun another one since."""
    lease = course.lease
    if lease is None or lease.token != token:
        return Step(course, accepted=False)
    course = replace(course, lease=None)
    match outcome:
        case Outcome.SUCCEEDED:
            return _succeeded(course, envelope, now, by_hand=lease.by_hand)
        case Outcome.SKIPPED:
            spent = course.attempts if lease.by_hand else max(0, course.attempts - 1)
            return Step(replace(course, attempts=spent, next_at=now + envelope.cooldown))
        case Outcome.DRY_RUN:
            return Step(replace(course, attempts=max(course.attempts, envelope.max_attempts)))
        case Outcome.FAILED | Outcome.LOST:
            paused = replace(course, next_at=now + envelope.pause(course.attempts))
            return Step(paused) if lease.by_hand else _locked_if_used_up(paused, envelope, now)


def recovered(course: Course, now: datetime, by: str) -> Step:
    """The service was found well, whatever its check said before. Attempts are kept for a relapse."""
    return _closed(course, now, by)


def expire(course: Course, envelope: Envelope, now: datetime) -> Step:
    """Time passed: an attempt whose lease is over is lost. Accepted when there was one."""
    lease = course.lease
    if lease is None or now < lease.until:
        return Step(course, accepted=False)
    return finish(course, lease.token, Outcome.LOST, envelope, now)


def order(course: Course, actor: str, reason: str, now: datetime) -> Course:
    """A person wants the handler run now, whatever pause or lock there is."""
    return replace(course, ordered=Order(actor, reason, now))


def unlock(course: Course, now: datetime) -> Step:
    """A person lifts lock and pause: attempts begin anew. Accepted when there was something to lift."""
    cleared = replace(course, attempts=0, locked_at=None, next_at=now if course.opening else None)
    lifted = course.locked_at is not None or course.attempts > 0
    return Step(cleared, accepted=lifted)


def _open(course: Course, seen: Seen, envelope: Envelope) -> Step:
    back = course.recovered_at
    if back is not None and seen.at < back:
        return Step(course)  # told before it came back: a check that has not looked again yet
    relapsed = back is not None and seen.at - back < envelope.cooldown
    opened = replace(
        course,
        opening=seen.opening,
        opened_at=seen.since or seen.at,
        trigger=seen.trigger,
        reason=seen.reason,
        attempts=course.attempts if relapsed else 0,
        next_at=course.next_at if relapsed and course.next_at else seen.at,
        locked_at=None,
    )
    return _locked_if_used_up(opened, envelope, seen.at)


def _closed(course: Course, now: datetime, by: str) -> Step:
    closed = replace(
        course, opening=None, opened_at=None, trigger="", reason="", locked_at=None, recovered_at=now
    )
    if course.opening is None:
        return Step(closed)
    # When it began is told by the clock of Redis, which may be a little ahead.
    seconds = max(0.0, (now - course.opened_at).total_seconds()) if course.opened_at else None
    data = {"opening": course.opening, "by": by, "seconds": seconds, "attempts": course.attempts}
    return Step(closed, (Told("recovered", f"back, by {by}", data),))


def _succeeded(course: Course, envelope: Envelope, now: datetime, *, by_hand: bool) -> Step:
    closed = _closed(course, now, "its handler")
    attempts = 0 if by_hand else course.attempts
    return replace(closed, course=replace(closed.course, attempts=attempts, next_at=now + envelope.cooldown))


def _locked_if_used_up(course: Course, envelope: Envelope, now: datetime) -> Step:
    used_up = course.attempts >= envelope.max_attempts
    if course.opening is None or course.locked_at is not None or not used_up:
        return Step(course)
    said = f"{course.attempts} attempts did not help: a person must look at it"
    data = {"opening": course.opening, "attempts": course.attempts, "reason": course.reason}
    return Step(replace(course, locked_at=now), (Told("locked", said, data),))

"""What a check's results amount to: the *confirmed* status, told once, and not at every wink. Pure rules.

A raw result is what one probe found. A status is confirmed when ``failures`` results in a row were all worse
than it, or ``successes`` all better: then it is what all of them at least were. The first result of a check
is confirmed at once, because there is nothing to hold on to. Results that are unknown neither confirm nor
refute; three of them in a row (``failures`` if that is fewer) make the status unknown, and what was known
comes back with the next result that knows.

A status that changes too often is *flapping*, judged as Nagios does over the last 21 results: the newer a
change, the more it weighs. While it lasts the confirmed status is held, and nothing but its beginning and
its end is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from regrow.health.rules import Result, Status

Kind = Literal["status", "flapping", "steady", "maintenance_over"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WINDOW = 21
"""Results in which flapping is looked for."""
_OLDEST_WEIGHS, _NEWEST_WEIGHS = 0.8, 1.2

_BADNESS: dict[Status, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}
_KNOWN: tuple[Status, ...] = tuple(_BADNESS)
_UNKNOWN_AFTER = 3
"""Results in a row, at most: as long as a result that is late is waited for."""
_LETTER: dict[Status, str] = {"healthy": "h", "degraded": "d", "unhealthy": "u", "unknown": "?"}
_STATUS_OF = {letter: status for status, letter in _LETTER.items()}
_BREAK = "-"
"""Stands in ``recent`` where the monitor was silent: results before it are not in a row with those after."""


@dataclass(frozen=True)
class Policy:
    """How many results in a row confirm a change, and the shares of change that begin and end flapping.

    ``failures``, ``successes``: results. ``flapping_from``, ``flapping_until``: percent. ``gap``: seconds
    without a result after which results are not in a row any more.
    """

    failures: int = 1
    successes: int = 1
    flapping_from: float = 30.0
    flapping_until: float = 20.0
    gap: float = float("inf")


@dataclass(frozen=True)
class State:
    """What is remembered of a check between two results.

    ``status``: the confirmed one, since ``since``; ``began``: when the first of the results was made that
    confirmed it. ``number``: how many changes have been told; of two states the one with the higher number
    holds, then the one with the later result (``at``). ``recent``: the last results, a letter each, the
    newest last. ``behind``: what was confirmed before it became unknown. ``off_since``: when the first of
    the results was made that differ from the confirmed status. ``maintenance``: the window that the last
    result fell into.
    """

    check: str
    status: Status
    since: datetime
    began: datetime
    number: int
    at: datetime
    recent: str
    flapping: bool = False
    behind: Status | None = None
    off_since: datetime | None = None
    maintenance: str | None = None

    @property
    def word(self) -> str:
        """The status, or ``flapping``."""
        return "flapping" if self.flapping else self.status

    def is_newer_than(self, other: State | None) -> bool:
        """Whether this one holds where the two stores differ."""
        return other is None or (self.number, self.at) > (other.number, other.at)


@dataclass(frozen=True)
class Change:
    """One event of a check, told once: ``(check, number)`` is its name.

    ``kind``: *status* (from one confirmed status to another), *flapping* (began), *steady* (flapping is over;
    ``to_status`` holds now), *maintenance_over* (what went bad in a maintenance window and is still bad).
    ``at``: of the result that confirmed it; ``began``: of the first result that said so. ``cause``: the root
    among the checks it depends on that was down at that time. ``maintenance``: the window it fell into.
    """

    check: str
    number: int
    kind: Kind
    from_status: Status
    to_status: Status
    at: datetime
    began: datetime
    message: str
    flapping: bool = False
    cause: str | None = None
    maintenance: str | None = None


def follow(state: State | None, result: Result, policy: Policy) -> tuple[State, Change | None]:
    """The state after one more result, and the event that it makes, if any.

    A result that is not later than the last one changes nothing.
    """
    if state is None:
        return _first(result)
    if result.at <= state.at:
        return state, None
    recent = _recent(state, result, policy)
    flapping = is_flapping(recent, policy, already=state.flapping)
    status = state.status if flapping else confirmed(state.status, state.behind, recent, policy)
    off_since = None if result.status == state.status else state.off_since or result.at
    after = replace(
        state,
        at=result.at,
        recent=recent,
        flapping=flapping,
        status=status,
        behind=_behind(state, status),
        off_since=off_since,
        maintenance=result.maintenance,
    )
    kind = _kind(state, after)
    if kind is None:
        return after, None
    began = off_since or result.at if status != state.status else result.at
    after = replace(after, number=state.number + 1)
    if status != state.status:
        after = replace(after, since=result.at, began=began, off_since=None)
    return after, _change(kind, state, after, began, result)


def confirmed(status: Status, behind: Status | None, recent: str, policy: Policy) -> Status:
    """The status that the last results confirm; ``status`` while they confirm no other.

    ``behind``: what was confirmed before ``status`` became unknown.
    """
    row = recent.rpartition(_BREAK)[2]
    if row.endswith(_LETTER["unknown"]):
        needed = min(policy.failures, _UNKNOWN_AFTER)
        return "unknown" if row.endswith(_LETTER["unknown"] * needed) else status
    told = [_STATUS_OF[letter] for letter in row if letter != _LETTER["unknown"]]
    held = behind if status == "unknown" else status
    if held is None:
        return told[-1]
    mildest = _agreed(told, policy.failures, min)
    if mildest is not None and mildest > _BADNESS[held]:
        return _KNOWN[mildest]
    worst = _agreed(told, policy.successes, max)
    if worst is not None and worst < _BADNESS[held]:
        return _KNOWN[worst]
    return held


def change_percent(recent: str) -> float:
    """How much the status changed over the last 21 results: 0 never, 100 each time.

    The oldest change weighs 0.8, the newest 1.2. Missing and unknown results are no changes.
    """
    letters = [letter for letter in recent if letter in "hdu"][-WINDOW:]
    if len(set(letters)) < 2:
        return 0.0
    places = WINDOW - 1
    first = places - (len(letters) - 1)  # fewer results: the older places saw no change
    slope = (_NEWEST_WEIGHS - _OLDEST_WEIGHS) / (places - 1)
    weight = sum(
        _OLDEST_WEIGHS + slope * (first + index)
        for index in range(len(letters) - 1)
        if letters[index] != letters[index + 1]
    )
    return 100.0 * weight / places


def is_flapping(recent: str, policy: Policy, *, already: bool) -> bool:
    """Whether it flaps now: from ``flapping_from`` percent on, until it is below ``flapping_until``."""
    percent = change_percent(recent)
    return percent >= policy.flapping_until if already else percent >= policy.flapping_from


def _first(result: Result) -> tuple[State, Change | None]:
    after = State(
        check=result.check,
        status=result.status,
        since=result.at,
        began=result.at,
        number=0,
        at=result.at,
        recent=_LETTER[result.status],
        maintenance=result.maintenance,
    )
    if result.status == "unknown":
        return after, None
    before, after = replace(after, status="unknown"), replace(after, number=1)
    return after, _change("status", before, after, result.at, result)


def _recent(state: State, result: Result, policy: Policy) -> str:
    silent = (result.at - state.at).total_seconds() > policy.gap
    letters = state.recent + (_BREAK if silent else "") + _LETTER[result.status]
    return letters[-max(WINDOW, policy.failures, policy.successes) :]


def _behind(state: State, status: Status) -> Status | None:
    if status != "unknown":
        return None
    return state.behind if state.status == "unknown" else state.status


def _kind(before: State, after: State) -> Kind | None:
    if after.flapping != before.flapping:
        return "flapping" if after.flapping else "steady"
    if after.status != before.status:
        return "status"
    if before.maintenance and not after.maintenance and (after.status != "healthy" or after.flapping):
        return "maintenance_over"
    return None


def _change(kind: Kind, before: State, after: State, began: datetime, result: Result) -> Change:
    return Change(
        check=after.check,
        number=after.number,
        kind=kind,
        from_status=before.status,
        to_status=after.status,
        at=result.at,
        began=began,
        message=result.message,
        flapping=after.flapping,
        maintenance=after.maintenance,
    )


def _agreed(told: Sequence[Status], needed: int, pick: Callable[[list[int]], int]) -> int | None:
    """What the last ``needed`` results agree on: their mildest or worst; None when there are too few."""
    if len(told) < needed:
        return None
    return pick([_BADNESS[status] for status in told[-needed:]])

"""What the crash of a child means: frozen data in, a decision out. No clock, no process.

The first crash is answered quickly, because most are accidents; from the second on the pause doubles from
30 s, because a crash loop only burns the machine; after five restarts in a row a person has to look.
A child that ran for ten minutes has proved itself: its next crash counts as a first one again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """Pauses in seconds. ``attempts`` restarts in a row are made, then the stack gives up."""

    attempts: int = 5
    first_pause: float = 1.0
    pause: float = 30.0
    factor: float = 2.0
    stable_after: float = 600.0


RUNNING = RestartPolicy()
"""Once the stack has been ready."""

STARTING = RestartPolicy(attempts=2, pause=2.0)
"""Before it was ever ready someone waits in front of it: a child that cannot start says so within seconds."""

TESTING = RestartPolicy(first_pause=0.2, pause=1.0, stable_after=20.0)
"""The testing profile: the same shape, in seconds."""


@dataclass(frozen=True)
class Exit:
    """One end of a child that nobody had asked for. Times in seconds on one clock.

    ``code`` is the exit status; a negative one is the signal that ended it, as in :mod:`subprocess`.
    """

    started: float
    ended: float
    code: int

    @property
    def lasted(self) -> float:
        return self.ended - self.started


@dataclass(frozen=True)
class Restart:
    """Start the child again at ``at``; it is restart number ``number`` of ``of`` in this row."""

    at: float
    number: int
    of: int


@dataclass(frozen=True)
class GiveUp:
    """Stop trying; these exits in a row are the reason."""

    exits: tuple[Exit, ...]


def decide(policy: RestartPolicy, exits: Sequence[Exit]) -> Restart | GiveUp:
    """What to do about the last of ``exits`` (oldest first, at least one)."""
    row = in_a_row(policy, exits)
    if len(row) > policy.attempts:
        return GiveUp(row)
    return Restart(at=row[-1].ended + pause(policy, len(row)), number=len(row), of=policy.attempts)


def in_a_row(policy: RestartPolicy, exits: Sequence[Exit]) -> tuple[Exit, ...]:
    """The exits that count: the newest, and those before it as far back as the last stable run."""
    row: list[Exit] = []
    for exit_ in reversed(exits):
        row.insert(0, exit_)
        if exit_.lasted >= policy.stable_after:
            break
    return tuple(row)


def pause(policy: RestartPolicy, number: int) -> float:
    """Seconds before restart ``number`` (from 1) of a row."""
    if number == 1:
        return policy.first_pause
    return policy.pause * policy.factor ** (number - 2)

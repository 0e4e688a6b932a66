"""Whoever has a little to tell Redis every tenth of a second rides along with the breakers' reporter.

So that there is one such thread a process, and no caller ever waits for Redis.
"""

from __future__ import annotations

from typing import Protocol


class Rider(Protocol):
    """What rides along."""

    @property
    def due(self) -> bool:
        """Whether there is something to tell."""

    def ride(self) -> None:
        """Tell it, in the reporter's thread and within a fraction of a second. Raises nothing for Redis."""


class Vehicle(Protocol):
    """What it rides on."""

    idle: bool
    """Nobody listens at the moment: whoever has become due calls :meth:`wake`."""

    def wake(self) -> None:
        """See to it that the next trip is soon."""


def carry(rider: Rider) -> Vehicle:
    """Take a rider along from now on, for as long as somebody holds it."""
    from regrow.breakers.process import process_reporter

    reporter = process_reporter()
    reporter.carry(rider)
    return reporter

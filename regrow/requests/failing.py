"""Which requests have failed."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failing:
    """What counts as a failed request in the service's figures. Breakers have rules of their own.

    ``statuses``: those that are failures. ``exceptions``: an error that left the application, an answer that
    ended in the middle or never began, though the client was there. ``refusals``: a 503 of ours in place of
    the application: an open breaker, the level, too much load. (A process that drains counts nothing: who is
    turned away goes to the next one.)
    """

    statuses: Container[int] = range(500, 600)
    exceptions: bool = True
    refusals: bool = True

"""The log events of circuit breakers: ``breaker.opened``, ``half_open``, ``closed``, ``would_open``."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from regrow.breakers.rules import State, Transition

logger = logging.getLogger("regrow.breakers")

_EVENTS = {
    State.CLOSED: "breaker.closed",
    State.OPEN: "breaker.opened",
    State.HALF_OPEN: "breaker.half_open",
}


def log_transitions(name: str, transitions: Iterable[Transition], *, shared: bool) -> None:
    """One line a transition, by the process that brought it about. ``shared``: fleet-wide, not local."""
    for told in transitions:
        logger.log(
            logging.WARNING if told.to_state is State.OPEN or told.would_open else logging.INFO,
            "breaker.would_open" if told.would_open else _EVENTS[told.to_state],
            extra={
                # The standard library keeps the field `name` for the logger.
                "breaker": name,
                "failure_rate": round(told.failure_rate, 4),
                "epoch": told.epoch,
                "reason": told.reason,
                "actor": told.actor or None,
                "reporter": told.reporter or None,
                "shared": shared,
            },
        )

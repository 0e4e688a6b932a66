"""Whoever wants to know when a breaker changes, in this process: told once a change, wherever it came from.

Listeners run on the reporter's thread, or on the caller's where breakers are local. They should be quick;
what they raise is logged and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from regrow.breakers.cell import Cell
from regrow.breakers.rules import Transition

logger = logging.getLogger("regrow.breakers")


@dataclass(frozen=True, slots=True)
class Change:
    """A breaker's new state. ``reason`` and ``actor`` are empty when another process brought it about.

    ``reporter``: this host's name when the change is its own alone, empty when it is the fleet's.
    """

    name: str
    from_state: str
    to_state: str
    epoch: int
    reason: str = ""
    actor: str = ""
    here: bool = True
    reporter: str = ""


Listener = Callable[[Change], object]


def listen(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` with every :class:`Change` of every breaker; the function returned ends that."""
    _listeners.append(listener)

    def stop() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return stop


def announce(cell: Cell, transitions: Iterable[Transition]) -> None:
    """Tell what has changed since the last time."""
    changes = _changes(cell, transitions)
    for change in changes:
        for listener in (*cell.listeners, *_listeners):
            try:
                listener(change)
            except Exception:
                logger.exception("breakers.listener_failed", extra={"breaker": cell.name})


def _changes(cell: Cell, transitions: Iterable[Transition]) -> list[Change]:
    with cell.telling:
        gate, (epoch, state) = cell.gate, cell.announced
        changes = []
        for told in transitions:
            if told.reporter not in ("", cell.host):
                continue  # another host's own: this process found it gone
            if told.epoch > epoch and told.to_state is not told.from_state:
                changes.append(
                    Change(
                        cell.name,
                        told.from_state,
                        told.to_state,
                        told.epoch,
                        told.reason,
                        told.actor,
                        reporter=told.reporter,
                    )
                )
                epoch, state = told.epoch, told.to_state
        if gate.heard and gate.epoch > epoch:
            if gate.state is not state:
                own = cell.host if gate.epoch > cell.known.epoch else ""
                changes.append(Change(cell.name, state, gate.state, gate.epoch, here=False, reporter=own))
            epoch, state = gate.epoch, gate.state
        cell.announced = epoch, state
        return changes


_listeners: list[Listener] = []

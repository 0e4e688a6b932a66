"""How much of the system is on: one level for the whole fleet, told to every application.

An application asks :func:`level`, decorates with :func:`requires`, names parts of itself (:class:`Feature`),
and turns paths off or load away in its middleware (:class:`Paths`, :class:`Shedding`). Operators and the
worker use :mod:`regrow.degradation.service`, which needs the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from regrow.degradation.caching import StandInCache
from regrow.degradation.gates import Feature, allows, requires
from regrow.degradation.levels import LEVELS, Level
from regrow.degradation.overload import Shedding
from regrow.degradation.permits import Kind
from regrow.degradation.process import process_watch
from regrow.degradation.requests import Answer, Paths
from regrow.errors import DegradedError

__all__ = [
    "LEVELS",
    "Answer",
    "DegradedError",
    "Feature",
    "Kind",
    "Level",
    "Paths",
    "Shedding",
    "StandInCache",
    "View",
    "allows",
    "level",
    "listen",
    "requires",
    "view",
]


class View(NamedTuple):
    """The level and what is known of it. ``known`` False: nobody confirmed it lately. ``why``: in words."""

    level: Level
    known: bool
    why: str


def level() -> Level:
    """The level that holds now: a read of this process's memory, whatever Redis does.

    In a process that has just begun, the first question waits for an answer, 250 ms at most (not in an event
    loop). What nobody has confirmed for ``degradation.hold`` seconds is no better than
    ``degradation.when_unknown``; without a configured Redis the level is normal.
    """
    return process_watch().level()


def view() -> View:
    """:func:`level`, and whether and why it is so."""
    told = process_watch().view()
    return View(told.level, told.known, told.why)


def listen(listener: Callable[[Level, Level], object]) -> Callable[[], None]:
    """Call ``listener(old, new)`` when the level of this process changes, in a thread of Regrow's.

    Returns a function that ends it.
    """
    return process_watch().listen(listener)

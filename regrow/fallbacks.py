"""What to answer when a service cannot: a value, or a function of the error, by name or where it is needed::

@regrow.fallback_for("ai").register
def canned(error):
    return "We will answer soon."

breaker.call(ask, question, fallback=regrow.fallback_for("ai"))
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from regrow.tallies import tallies

logger = logging.getLogger("regrow.fallbacks")

F = TypeVar("F")


Call = tuple[tuple[Any, ...], Mapping[str, Any]]
"""The arguments of the call that is answered for."""


def instead(fallback: Any, error: BaseException, service: str, call: Call | None = None) -> Any:
    """The answer of ``fallback`` to ``error``: what it returns if it can be called, else itself.

    ``call``: for a fallback that needs to know it (:mod:`regrow.later`). Counted for ``service``; a
    :class:`Fallback` counts for its own.
    """
    if isinstance(fallback, Fallback):
        return fallback.answer(error, call)
    answer = _answer(fallback, error, call)
    tallies.count("fallback_usage_total", service=service)
    return answer


def _answer(fallback: Any, error: BaseException, call: Call | None) -> Any:
    if call is not None and hasattr(fallback, "bound"):
        return fallback.bound(*call)(error)
    return fallback(error) if callable(fallback) else fallback


class Fallback:
    """What answers for one service. Each one registered is tried when those before it have raised.

    Called with the error; with nothing registered, it raises that. Coroutine functions may be registered
    where a coroutine calls: what they return is handed on as it is, so they are tried as the last.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.used = 0
        """How often it has answered in this process."""
        self._steps: tuple[Any, ...] = ()

    def register(self, step: F) -> F:
        """Add a value or a function of the error. Also a decorator."""
        self._steps = (*self._steps, step)
        return step

    def clear(self) -> None:
        """Take back all that was registered."""
        self._steps = ()

    def __call__(self, error: BaseException) -> Any:
        return self.answer(error)

    def answer(self, error: BaseException, call: Call | None = None) -> Any:
        """The first answer that a step gives; ``call`` is told to those that need to know it."""
        last = error
        for step in self._steps:
            try:
                answer = _answer(step, error, call)
            except Exception as failed:
                logger.warning("fallback.failed", extra={"service": self.service, "error": repr(failed)})
                last = failed
            else:
                self.used += 1
                tallies.count("fallback_usage_total", service=self.service)
                return answer
        raise last

    def __repr__(self) -> str:
        return f"<Fallback for {self.service!r}, {len(self._steps)} registered>"


def fallback_for(service: str) -> Fallback:
    """The process's fallback for a service; the same one for the same name, wherever it is asked for."""
    return _known.setdefault(service, Fallback(service))


_known: dict[str, Fallback] = {}

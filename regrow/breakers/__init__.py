"""Circuit breakers that a fleet shares through Redis.

An application uses :class:`CircuitBreaker` and :func:`get_circuit_breaker`. Operators and the worker use
:func:`list_breakers`, :func:`show` and :func:`order` on a Redis client, and
:func:`regrow.breakers.history.monitor`, which needs the database.
"""

from __future__ import annotations

from regrow.breakers.admission import Permit
from regrow.breakers.kinds import KINDS
from regrow.breakers.listeners import Change, listen
from regrow.breakers.process import flush
from regrow.breakers.rules import BreakerConfig, OrderKind, State, Transition
from regrow.breakers.service import CircuitBreaker, get_circuit_breaker
from regrow.breakers.status import BreakerStatus, ReporterStatus, list_breakers, order, show
from regrow.errors import CircuitOpenError

__all__ = [
    "KINDS",
    "BreakerConfig",
    "BreakerStatus",
    "Change",
    "CircuitBreaker",
    "CircuitOpenError",
    "OrderKind",
    "Permit",
    "ReporterStatus",
    "State",
    "Transition",
    "flush",
    "get_circuit_breaker",
    "list_breakers",
    "listen",
    "order",
    "show",
]

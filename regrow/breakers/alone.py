"""This process's breakers for themselves: no Redis, no thread, no past, by a clock of somebody's choice.

For tests of applications (``regrow.testing``). Breakers that exist take part, those that are made meanwhile
are forgotten in the end; the same objects go on before and after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regrow.breakers import process, service
from regrow.breakers.reporter import Reporter
from regrow.breakers.store import MemoryStore


@contextmanager
def alone(seconds: Callable[[], float]) -> Iterator[Reporter]:
    """All breakers of the process's own reporter begin closed, decided by the clock ``seconds`` in memory.

    The clock must be the one of ``regrow.clock`` meanwhile. In the end all begin closed once more.
    """
    reporter = process.process_reporter()
    cells, known = reporter.known(), dict(service._known)  # noqa: SLF001 - two halves of one thing
    listeners = {name: list(cell.listeners) for name, cell in cells.items()}
    reporter.restart(None, MemoryStore(lambda: math.floor(seconds() * 1000)), seconds=seconds)
    try:
        yield reporter
    finally:
        for name, cell in reporter.known().items():
            cell.listeners[:] = listeners.get(name, [])
            if name not in cells:
                cell.given = {}
        service._known.clear()  # noqa: SLF001
        service._known.update(known)  # noqa: SLF001
        reporter.restart(None)
        process.reconnect()

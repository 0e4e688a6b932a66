"""Health as tasks, pages, reports and the command line ask for it.

``run_due`` and ``run_chunk`` sweep (``regrow.health.running``), the others tell what is known
(``regrow.health.reading``).
"""

from __future__ import annotations

from regrow.health.reading import changes, declared, graph_of, history, overview, prune, states
from regrow.health.running import outcome_of, run_chunk, run_due, run_of_minute

__all__ = [
    "changes",
    "declared",
    "graph_of",
    "history",
    "outcome_of",
    "overview",
    "prune",
    "run_chunk",
    "run_due",
    "run_of_minute",
    "states",
]

"""The end of processes that end without atexit: those of multiprocessing and of Celery's billiard."""

from __future__ import annotations

import sys
from collections.abc import Callable


def at_exit_of_pool_processes(flush: Callable[[], None], *, priority: int) -> None:
    """Call ``flush`` when this process ends as a pool's; higher priorities go first."""
    for module in ("multiprocessing.util", "billiard.util"):
        util = sys.modules.get(module)
        if util is not None:
            util.Finalize(None, flush, exitpriority=priority)

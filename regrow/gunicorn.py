"""Hooks for gunicorn. In ``gunicorn.conf.py``::

from regrow.gunicorn import post_worker_init, worker_exit

graceful_timeout = 45  # SHUTDOWN_TIMEOUT and 15 seconds: gunicorn kills what is still there after it

On SIGTERM a worker drains before gunicorn has it stop; SIGINT and SIGQUIT stay gunicorn's quick end. For
ASGI workers take ``ReliabilityMiddleware(app, drain_on_signals=True)`` instead.
"""

from __future__ import annotations

import signal
from typing import Any

from regrow import drain


def post_worker_init(worker: Any) -> None:
    """The worker has set up its signals and loaded its application."""
    ours = drain.install((signal.SIGTERM,))
    before = worker.cfg.pre_request

    def pre_request(worker: Any, request: Any) -> None:
        if ours.begun and hasattr(request, "force_close"):
            # Whoever keeps the connection would send the next request to a worker that is gone.
            request.force_close()
        before(worker, request)

    worker.cfg.set("pre_request", pre_request)


def worker_exit(server: Any, worker: Any) -> None:
    """The worker ends; without a drain (``max_requests``, SIGQUIT) the clean-up is still to be done."""
    del server, worker
    drain.this_process().clean_up()

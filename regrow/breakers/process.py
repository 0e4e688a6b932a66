"""The one reporter of this process, on the Redis that the application named."""

from __future__ import annotations

import atexit
import os
import threading

from regrow.breakers.reporter import Reporter
from regrow.breakers.store import BreakerStore
from regrow.configuration import configured
from regrow.tallies import tallies

_reporter: Reporter | None = None
_lock = threading.Lock()


def process_reporter() -> Reporter:
    """This process's reporter, made on first use from what :func:`regrow.configure` was told."""
    global _reporter  # noqa: PLW0603 - one thread a process is the point
    with _lock:
        if _reporter is None:
            _reporter = Reporter(_store())
        return _reporter


def reconnect() -> None:
    """The configuration changed: breakers that exist already go over to the new Redis."""
    with _lock:
        if _reporter is not None:
            _reporter.attach(_store())


def flush() -> None:
    """Report what this process has gathered, now. For processes that end without running exit handlers."""
    if _reporter is not None:
        _reporter.flush()
    tallies.flush()


def _store() -> BreakerStore | None:
    url = configured().redis_url
    if url is None:
        return None
    from regrow.breakers.redis_store import RedisStore

    return RedisStore.from_url(url)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


atexit.register(flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

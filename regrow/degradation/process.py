"""The one watch of this process, on the Redis that the application named."""

from __future__ import annotations

import os
import threading

from regrow.configuration import configured
from regrow.degradation.store import LevelStore
from regrow.degradation.watch import Watch

_watch: Watch | None = None
_lock = threading.Lock()


def process_watch() -> Watch:
    """This process's watch, made on first use from what :func:`regrow.configure` was told."""
    return _watch or _made()


def reconnect() -> None:
    """The configuration changed: another Redis is listened to from now on."""
    global _watch  # noqa: PLW0603 - one thread a process is the point
    with _lock:
        old, _watch = _watch, None
        if old is not None:
            old.close()
            _watch = Watch(_store())
            _watch.adopt(old)


def _made() -> Watch:
    global _watch  # noqa: PLW0603
    with _lock:
        if _watch is None:
            _watch = Watch(_store())
        return _watch


def _store() -> LevelStore | None:
    url = configured().redis_url
    return None if url is None else LevelStore.from_url(url)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

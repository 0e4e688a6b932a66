"""How a process ends in order: nothing in hand is lost, nobody new is let in, everything is cleaned up.

One process has one end, so this module speaks of *the* drain of this process::

    regrow.drain.on_shutdown(pool.close)              # called last to first when nothing is in hand
    regrow.drain.install()                            # SIGTERM and SIGINT begin it

ASGI applications need only ``ReliabilityMiddleware(app, drain_on_signals=True)``, gunicorn the hooks of
:mod:`regrow.gunicorn`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from typing import Any

from regrow.drain.callbacks import EACH, Callback
from regrow.drain.course import Drain
from regrow.drain.signals import Signals

__all__ = ["Drain", "Signals", "install", "on_shutdown", "status", "this_process"]

_lock = threading.Lock()
_drain: Drain | None = None
_installed: Signals | None = None


def this_process() -> Drain:
    """The drain of this process, made on first use."""
    global _drain  # noqa: PLW0603 - a process ends once
    with _lock:
        if _drain is None:
            _drain = Drain()
        return _drain


def install(
    numbers: Iterable[int] = (signal.SIGTERM, signal.SIGINT),
    *,
    timeout: float | None = None,
    notice: float | None = None,
    linger: float | None = None,
) -> Drain:
    """Let signals begin the drain of this process; what handled them before is called at its end.

    Call it in the main thread, after a server has set up its own handlers and before it serves. Times as
    in :class:`Drain`; those that are not given stay as they are. The signals are taken over once.
    """
    global _installed  # noqa: PLW0603
    drain = this_process()
    drain.set_times(timeout=timeout, notice=notice, linger=linger)
    if _installed is None:
        signals = Signals(drain, numbers)
        if signals.install():
            _installed = signals
    return drain


def on_shutdown(call: Callback, *, name: str | None = None, timeout: float = EACH) -> Callback:
    """:meth:`Drain.on_shutdown` of this process."""
    return this_process().on_shutdown(call, name=name, timeout=timeout)


def status() -> dict[str, Any]:
    """:meth:`Drain.status` of this process."""
    return this_process().status()


def _after_fork() -> None:
    global _lock, _installed  # noqa: PLW0603
    _lock = threading.Lock()
    _installed = None
    if _drain is not None:
        _drain._after_fork()  # noqa: SLF001 - ours


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""What a process still has to do when its work is done: clean-up, in reverse order, each within its time."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from regrow.log_events import EventLog

log = EventLog("regrow.drain")

Callback = Callable[[], Any]
"""A function without arguments, or a coroutine function."""

EACH = 5.0
"""Seconds that one callback may take, unless it says otherwise."""
ALL = 10.0
"""Seconds for all of them together: what comes after a drain must fit into the grace period."""


@dataclass(frozen=True)
class Registered:
    call: Callback
    name: str
    timeout: float


Outcome = Literal["done", "failed", "too long", "no time left"]


class CleanUp:
    """The callbacks of one process. The last one registered goes first, as what it needs was made before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Registered] = []

    def add(self, call: Callback, *, name: str | None = None, timeout: float = EACH) -> None:
        told = name or getattr(call, "__qualname__", None) or repr(call)
        with self._lock:
            self._waiting.append(Registered(call, told, timeout))

    def run(self, loop: asyncio.AbstractEventLoop | None = None) -> list[tuple[str, Outcome]]:
        """Call what has not been called yet; ``loop`` is where coroutines belong, if it still turns.

        A callback that fails or hangs is logged and holds up no other. Not to be called from ``loop`` itself.
        """
        with self._lock:
            waiting, self._waiting = self._waiting[::-1], []
        until = time.monotonic() + ALL
        return [(one.name, self._run(one, until, loop)) for one in waiting]

    def _run(self, one: Registered, until: float, loop: asyncio.AbstractEventLoop | None) -> Outcome:
        patience = min(one.timeout, until - time.monotonic())
        if patience <= 0:
            log.error("drain.callback_skipped", callback=one.name, limit=ALL)
            return "no time left"
        errors: list[BaseException] = []

        def called() -> None:
            try:
                made = one.call()
                if inspect.isawaitable(made):
                    _await(made, patience, loop)
            except BaseException as error:
                errors.append(error)

        # A thread of its own, because nothing else can be given up in the middle.
        thread = threading.Thread(target=called, name=f"regrow-clean-up-{one.name}", daemon=True)
        thread.start()
        thread.join(patience)
        if thread.is_alive():
            log.error("drain.callback_timed_out", callback=one.name, limit=round(patience, 1))
            return "too long"
        if errors:
            log.error("drain.callback_failed", callback=one.name, error=repr(errors[0]))
            return "failed"
        return "done"


def _await(made: Any, patience: float, loop: asyncio.AbstractEventLoop | None) -> None:
    async def awaited() -> None:
        await made

    if loop is not None and loop.is_running():
        asyncio.run_coroutine_threadsafe(awaited(), loop).result(patience)
    else:
        asyncio.run(awaited())

"""The lane of probes that wait without a thread each: an event loop on a thread of its own, one a process.

Hundreds of HTTP probes are under way at once on one pooled client. So many as there are lanes begin together;
one that takes longer than a moment makes room for the next, so that what hangs delays nobody. Each is cut off
at its own timeout.

The loop watches how late it is itself. When this process gets no CPU, no lane is given away, because more
probes would make it later still, and what seems not to answer is *unknown*: it was we who did not look.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from regrow.clock import Clock
from regrow.errors import NoTimeError

if TYPE_CHECKING:
    from regrow.health.rules import Finding
    from regrow.outgoing import Clients

LANES = 32
"""Probes that begin at once. More of them would wait for this process's CPU and not for their services; and
httpcore's pool looks at each of its connections for each request."""
SLOW_AFTER = 0.25
"""Seconds after which a probe gives its lane to the next one."""
IN_FLIGHT = 512
"""Probes under way in all, hanging ones included; each has a connection, which is a file descriptor."""
_TOGETHER = 0.02
"""Seconds in which answers gather before they are handed over, so that not each wakes the other thread."""
_GLANCE = 0.05
"""Seconds between two looks of the loop at its own lateness."""
_CUT_OFF = 0.85
"""The share of its timeout from which a probe may have been cut off; HTTP keeps a tenth to say so."""
_LOOK_UPS = 32
"""Threads that look names up: a name server that is silent must not hold up the names of others."""


class Awaited(Protocol):
    """A probe that is to be awaited; what becomes of it is written into it."""

    began: float
    ended: float
    at: datetime | None
    found: Finding | None
    error: Exception | None

    @property
    def timeout(self) -> float: ...
    @property
    def awaits(self) -> Callable[[Clients], Awaitable[Finding]]: ...


@dataclass
class _Sluice:
    """Lets probes through: ``lanes`` at a time, slow ones not counted, and ``in_flight`` with them."""

    lanes: asyncio.Semaphore
    in_flight: asyncio.Semaphore
    gathered: list[Awaited] = field(default_factory=list)


class Lane:
    """The event loop of this process; begun when it is first needed, and anew in a forked child."""

    def __init__(self) -> None:
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clients: Clients | None = None
        self._late = 0.0
        self._lock = threading.Lock()

    def begin(
        self,
        probes: Sequence[Awaited],
        ended: queue.SimpleQueue[list[Awaited]],
        clock: Clock,
        stop_at: float,
    ) -> None:
        """Start on these; each comes back in a list through ``ended``, begun or not.

        ``stop_at``: monotonic time after which no further one is begun.
        """
        loop = self._running()

        async def run() -> None:
            sluice = _Sluice(asyncio.Semaphore(LANES), asyncio.Semaphore(IN_FLIGHT))

            def hand_over() -> None:
                gathered, sluice.gathered = sluice.gathered, []
                ended.put(gathered)

            async def one(probe: Awaited) -> None:
                await self._one(probe, sluice, clock, stop_at)
                if not sluice.gathered:
                    loop.call_later(_TOGETHER, hand_over)
                sluice.gathered.append(probe)

            async with asyncio.TaskGroup() as group:
                for probe in probes:
                    group.create_task(one(probe))

        loop.call_soon_threadsafe(lambda: _keep(loop.create_task(run())))

    async def _one(self, probe: Awaited, sluice: _Sluice, clock: Clock, stop_at: float) -> None:
        async with sluice.in_flight:
            await sluice.lanes.acquire()
            if time.monotonic() >= stop_at:
                sluice.lanes.release()
                return
            gives_way = _Once(sluice.lanes.release)
            slow = asyncio.create_task(self._when_slow(gives_way))
            try:
                await self._probe(probe, clock)
            finally:
                slow.cancel()
                gives_way()

    async def _when_slow(self, gives_way: Callable[[], None]) -> None:
        """Let the next one begin, once the service is slow and not we."""
        late = float("-inf")
        while self._late - late > SLOW_AFTER / 2:
            late = self._late
            await asyncio.sleep(SLOW_AFTER)
        gives_way()

    async def _probe(self, probe: Awaited, clock: Clock) -> None:
        assert self._clients is not None  # noqa: S101 - made before the loop takes anything
        probe.began, probe.at, late = time.monotonic(), clock(), self._late
        try:
            async with asyncio.timeout(probe.timeout):
                probe.found = await probe.awaits(self._clients)
        except TimeoutError:
            pass  # no answer: the verdict of whoever asked
        except Exception as error:
            probe.error = error
        finally:
            probe.ended = time.monotonic()
        cut_off = probe.ended - probe.began > _CUT_OFF * probe.timeout
        if cut_off and self._late - late > probe.timeout / 4:
            probe.found, probe.error = None, NoTimeError()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                ready: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()
                threading.Thread(
                    target=lambda: asyncio.run(self._live(ready)), name="probes", daemon=True
                ).start()
                self._loop, self._pid = ready.get(), os.getpid()
            return self._loop

    async def _live(self, ready: queue.SimpleQueue[asyncio.AbstractEventLoop]) -> None:
        from regrow.outgoing import clients

        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_LOOK_UPS, thread_name_prefix="look-up"))
        async with clients() as self._clients:
            ready.put(loop)
            while True:  # for as long as the process
                at = loop.time()
                await asyncio.sleep(_GLANCE)
                self._late += max(0.0, loop.time() - at - _GLANCE)


class _Once:
    """Does something the first time it is called."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def __call__(self) -> None:
        act, self._act = self._act, None
        if act is not None:
            act()


_running: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """The loop holds its tasks weakly; one that nobody holds may vanish."""
    _running.add(task)
    task.add_done_callback(_running.discard)

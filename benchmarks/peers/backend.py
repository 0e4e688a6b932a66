"""The remote side of the fleet measurement: a TCP server that answers, fails, and writes down who called when."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass


@dataclass
class Arrival:
    """One call that reached the backend. Times are monotonic seconds."""

    caller: int
    at: float
    ok: bool
    answered: float = float("inf")


class Backend:
    """A caller sends its number, one byte; the answer, after ``latency``, is ``+`` or ``-``.

    It counts itself, so that what a breaker let through is not the breaker's word.
    """

    def __init__(self) -> None:
        self.latency = 0.005
        self.failing: frozenset[int] = frozenset()
        self.arrivals: list[Arrival] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


class _Connection(asyncio.Protocol):
    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        backend = self.backend
        for caller in data:
            arrival = Arrival(caller, time.monotonic(), caller not in backend.failing)
            backend.arrivals.append(arrival)
            backend._loop.call_later(backend.latency, self.answer, arrival)

    def answer(self, arrival: Arrival) -> None:
        arrival.answered = time.monotonic()
        self.transport.write(b"+" if arrival.ok else b"-")

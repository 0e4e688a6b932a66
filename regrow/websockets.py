"""Websockets while a process drains: what is being said is finished, then both sides are told to part.

Code 1012 (service restart) tells a client to come again. An application hears of it where it waits for the
next message, so that the one in hand is answered first. One that only ever sends hears of it at its first
send after ``GRACE`` seconds.
"""

from __future__ import annotations

import asyncio
import time

from regrow.asgi_types import Message, Receive, Scope, Send
from regrow.degradation import Answer
from regrow.intake import Intake
from regrow.protection import Refusal

SERVICE_RESTART = 1012
REASON = "service restart"
GRACE = 5.0


class Session:
    """One websocket between a server and an application."""

    def __init__(self, intake: Intake, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._leaving = self._loop.create_future()
        self._asked_at: float | None = None
        self._closed = False
        self._next: asyncio.Future[Message] | None = None
        self._forget = intake.on_close(self._ask)

    def _ask(self) -> None:
        """From any thread: the drain has begun."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._asked)

    def _asked(self) -> None:
        if not self._leaving.done():
            self._asked_at = time.monotonic()
            self._leaving.set_result(None)

    async def receive(self) -> Message:
        """The next message; once draining, what has already come and then the end."""
        if self._closed:
            return _disconnect()
        if self._next is None:
            self._next = asyncio.ensure_future(self._receive())
        await asyncio.wait({self._next, self._leaving}, return_when=asyncio.FIRST_COMPLETED)
        if self._next.done():
            message, self._next = self._next.result(), None
            self._closed = message["type"] == "websocket.disconnect"
            return message
        await self._part()
        return _disconnect()

    async def send(self, message: Message) -> None:
        """Pass a message on. OSError, as of a client that is gone, once the time to part is over."""
        if self._asked_at is not None and time.monotonic() - self._asked_at > GRACE:
            await self._part()
        if self._closed:
            if message["type"] == "websocket.close":
                return
            raise OSError(f"websocket closed: {REASON}")
        self._closed = message["type"] == "websocket.close"
        await self._send(message)

    def end(self) -> None:
        """The application is done."""
        self._forget()
        if self._next is not None:
            self._next.cancel()

    async def _part(self) -> None:
        if not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": REASON})


async def turn_away(answer: Refusal | Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse the handshake: with 503 and ``Retry-After`` where the server can say so, else with its 403."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": REASON})
        return
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})


def _disconnect() -> Message:
    return {"type": "websocket.disconnect", "code": SERVICE_RESTART, "reason": REASON}

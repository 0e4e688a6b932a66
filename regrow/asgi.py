"""Middleware for ASGI applications (Starlette, FastAPI, Django, Quart)::

app.add_middleware(regrow.asgi.ReliabilityMiddleware, protected={"/api/v1/messages/": "messaging"})
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from regrow.errors import CircuitOpenError
from regrow.protection import Exchange, ProtectedApp, Refusal, refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ReliabilityMiddleware(ProtectedApp[App]):
    """:class:`regrow.protection.ProtectedApp` for ASGI. Websockets and lifespan pass through."""

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - too late is a result here
        """Answer 503 from now on, wait for what is in hand; False when ``timeout`` seconds were too few."""
        return await self.intake.drain_async(timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = path_of(scope)
        if self._protection.exempts(path):
            return await self.app(scope, receive, send)
        if not self.intake.enter():
            return await _refuse(self._protection.draining, scope, send)
        try:
            await self._guarded(path, scope, receive, send)
        finally:
            self.intake.leave()
        return None

    async def _guarded(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        breaker = self._protection.breaker_for(path)
        try:
            permit = await breaker.admit_async() if breaker is not None else None
        except CircuitOpenError as error:
            return await _refuse(refusal(error.retry_after), scope, send)
        exchange = Exchange(permit)
        try:
            await self.app(scope, _watching(receive, exchange), _telling(send, exchange))
        except CircuitOpenError as error:
            exchange.fail(error)
            answer = exchange.refusal_for(error)
            if answer is None:
                raise
            return await _refuse(answer, scope, send)
        except BaseException as error:
            exchange.fail(error)
            raise
        exchange.end()
        return None


def _watching(receive: Receive, exchange: Exchange) -> Receive:
    async def watched() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.lose()
        return message

    return watched


def _telling(send: Send, exchange: Exchange) -> Send:
    async def told(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            exchange.head(message["status"])
        try:
            await send(message)
        except OSError:  # so servers say that the connection is closed
            exchange.lose()
            raise
        if kind in _BODIES:
            if message.get("more_body", False):
                exchange.flow()
            else:
                exchange.complete()

    return told


_BODIES = {"http.response.body", "http.response.zerocopysend", "http.response.pathsend"}


def path_of(scope: Scope) -> str:
    """The path as the application's own routes know it: without the prefix it is mounted under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


async def _refuse(answer: Refusal, scope: Scope, send: Send) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})

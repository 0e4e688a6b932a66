"""Middleware for ASGI applications (Starlette, FastAPI, Django, Quart)::

app.add_middleware(regrow.asgi.ReliabilityMiddleware, protected={"/api/v1/messages/": "messaging"})
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from regrow.asgi_types import App, Message, Receive, Scope, Send
from regrow.breakers.service import CircuitBreaker
from regrow.degradation import Answer, Paths, Shedding
from regrow.errors import CircuitOpenError, DegradedError
from regrow.intake import Intake
from regrow.protection import EXEMPT, READINESS, Exchange, ProtectedApp, Refusal, Service, refusal
from regrow.requests.failing import Failing
from regrow.websockets import Session, turn_away

_EVENT_STREAM = b"text/event-stream"
_BODIES = {"http.response.body", "http.response.zerocopysend", "http.response.pathsend"}


class ReliabilityMiddleware(ProtectedApp[App]):
    """:class:`regrow.protection.ProtectedApp` for ASGI.

    ``drain_on_signals``: SIGTERM and SIGINT drain this process (:mod:`regrow.drain`) before the server stops.
    Websockets are counted and told to leave (1012) when a drain begins; no breaker guards them.
    """

    def __init__(
        self,
        app: App,
        protected: Mapping[str, Service] | None = None,
        *,
        exempt: Iterable[str] = EXEMPT,
        intake: Intake | None = None,
        drain_retry_after: float = 5.0,
        readiness: Iterable[str] = READINESS,
        name: str = "app",
        drain_on_signals: bool = False,
        degradation: Paths | None = None,
        shedding: Shedding | None = None,
        failing: Failing | None = None,
    ) -> None:
        super().__init__(
            app,
            protected,
            exempt=exempt,
            intake=intake,
            drain_retry_after=drain_retry_after,
            readiness=readiness,
            name=name,
            degradation=degradation,
            shedding=shedding,
            failing=failing,
        )
        self._drains = drain_on_signals
        self._listens = not drain_on_signals

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - too late is a result here
        """Answer 503 from now on, wait for what is in hand; False when ``timeout`` seconds were too few."""
        return await self.intake.drain_async(timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._listens:
            self._listen()
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case "lifespan" if self._drains:
                await self.app(scope, _cleaning(receive), send)
            case _:
                await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        if self._protection.withholds(path):
            return await _refuse(self._protection.draining, scope, send, last=True)
        if self._protection.exempts(path):
            return await self.app(scope, receive, send)
        if self._protection.awaits_level:
            await asyncio.to_thread(self._protection.wait_for_level)
        instead = self._protection.replaces(scope["method"], path, asyncio.get_running_loop())
        if instead is not None:
            self.count_refusal(path, instead)
            return await _refuse(instead, scope, send)
        if not self.intake.enter():
            self._counts.turned_away()
            return await _refuse(self._protection.draining, scope, send, last=True)
        request = _Request(self, scope)
        try:
            await self._guarded(path, scope, receive, send, request)
        finally:
            request.leave()
        return None

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._protection.exempts(path_of(scope)):
            return await self.app(scope, receive, send)
        instead = self._protection.replaces("GET", path_of(scope), asyncio.get_running_loop())
        if instead is not None:
            return await turn_away(instead, scope, receive, send)
        if not self.intake.enter():
            self._counts.turned_away()
            return await turn_away(self._protection.draining, scope, receive, send)
        session = Session(self.intake, receive, send)
        try:
            await self.app(scope, session.receive, session.send)
        finally:
            session.end()
            self.intake.leave()
        return None

    async def _guarded(
        self, path: str, scope: Scope, receive: Receive, send: Send, request: _Request
    ) -> None:
        breaker = self._protection.breaker_for(path)
        try:
            permit = await breaker.admit_async() if breaker is not None else None
        except CircuitOpenError as error:
            refused = refusal(error.retry_after)
            self.count_refusal(path, refused)
            return await _refuse(refused, scope, send)
        request.breaker = breaker
        request.exchange = exchange = Exchange(permit)
        try:
            await self.app(scope, _watching(receive, exchange), _telling(send, exchange, request))
        except (CircuitOpenError, DegradedError) as error:
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

    def _listen(self) -> None:
        """Take the signals over, now that the server has set up its own handlers; once a process."""
        self._listens = True
        from regrow import drain

        drain.install().loop = asyncio.get_running_loop()


class _Request:
    """One request in hand, until it ends or turns out to be a stream that nobody should wait for."""

    __slots__ = ("_app", "_gone", "_http1", "breaker", "exchange")

    def __init__(self, app: ReliabilityMiddleware, scope: Scope) -> None:
        self._app = app
        self._http1 = scope.get("http_version", "1.1").startswith("1")
        self._gone = False
        self.breaker: CircuitBreaker | None = None
        self.exchange: Exchange | None = None

    def begins(self, message: Message) -> Message:
        """The head of the answer as it goes out."""
        headers = list(message.get("headers", ()))
        if any(name.lower() == b"content-type" and _EVENT_STREAM in value for name, value in headers):
            # It may last for hours, and its client comes again by itself when it is cut.
            if self.exchange is not None:
                self.exchange.streams()
            self.leave()
        if self._app.intake.leaving and self._http1:
            # Whoever keeps the connection would send the next request to a server that is gone.
            return {**message, "headers": [*_without_connection(headers), (b"connection", b"close")]}
        return message

    def leave(self) -> None:
        if self._gone:
            return
        self._gone = True
        if self.exchange is None:  # a breaker refused
            self._app.intake.leave()
            return
        seconds = self.exchange.seconds
        self._app.intake.leave(seconds)
        self._app.count(self.exchange, seconds, self.breaker)


def _watching(receive: Receive, exchange: Exchange) -> Receive:
    async def watched() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.lose()
        return message

    return watched


def _telling(send: Send, exchange: Exchange, request: _Request) -> Send:
    async def told(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            exchange.head(message["status"])
            message = request.begins(message)
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


def _cleaning(receive: Receive) -> Receive:
    """A server that stops for another reason than a signal leaves the clean-up to us all the same."""

    async def cleaned() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            from regrow import drain

            await asyncio.to_thread(drain.this_process().clean_up)
        return message

    return cleaned


def path_of(scope: Scope) -> str:
    """The path as the application's own routes know it: without the prefix it is mounted under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def _without_connection(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() != b"connection"]


async def _refuse(answer: Refusal | Answer, scope: Scope, send: Send, *, last: bool = False) -> None:
    """``last``: nothing more shall come on this connection."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    if last and scope.get("http_version", "1.1").startswith("1"):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})

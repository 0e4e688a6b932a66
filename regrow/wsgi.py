"""Middleware for WSGI applications (Flask, Django, Bottle)::

app.wsgi_app = regrow.wsgi.ReliabilityMiddleware(app.wsgi_app, {"/api/v1/messages/": "messaging"})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from regrow.breakers.service import CircuitBreaker
from regrow.degradation import Answer
from regrow.errors import CircuitOpenError, DegradedError
from regrow.protection import Exchange, ProtectedApp, Refusal, refusal

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class ReliabilityMiddleware(ProtectedApp[App]):
    """:class:`regrow.protection.ProtectedApp` for WSGI.

    A request is in hand until the server has closed its body; a body that is closed before its end was given
    up by the client.
    """

    def drain(self, timeout: float | None = None) -> bool:
        """Answer 503 from now on, wait for what is in hand; False when ``timeout`` seconds were too few."""
        return self.intake.drain(timeout)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = path_of(environ)
        if self._protection.withholds(path):
            return _refuse(self._protection.draining, environ, start_response)
        if self._protection.exempts(path):
            return self.app(environ, start_response)
        instead = self._protection.replaces(environ.get("REQUEST_METHOD", "GET"), path)
        if instead is not None:
            self.count_refusal(path, instead)
            return _refuse(instead, environ, start_response)
        if not self.intake.enter():
            self._counts.turned_away()
            return _refuse(self._protection.draining, environ, start_response)
        request = _Request(self)
        try:
            body, in_hand = self._guarded(path, environ, start_response, request)
        except BaseException:
            request.leave()
            raise
        if not in_hand:
            request.leave()
        return body

    def _guarded(
        self, path: str, environ: Environ, start_response: StartResponse, request: _Request
    ) -> tuple[Iterable[bytes], bool]:
        """The body, and whether its end is still to come."""
        breaker = self._protection.breaker_for(path)
        try:
            permit = breaker.admit() if breaker is not None else None
        except CircuitOpenError as error:
            instead = refusal(error.retry_after)
            self.count_refusal(path, instead)
            return _refuse(instead, environ, start_response), False
        request.breaker = breaker
        request.exchange = exchange = Exchange(permit)

        def starting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            exchange.head(int(status[:3]))
            request.begins(headers)
            return start_response(status, headers, *rest)

        def refuse(error: CircuitOpenError | DegradedError) -> Iterable[bytes] | None:
            answer = exchange.refusal_for(error)
            return None if answer is None else _refuse(answer, environ, start_response)

        try:
            body = self.app(environ, starting)
        except (CircuitOpenError, DegradedError) as error:
            exchange.fail(error)
            refused = refuse(error)
            if refused is None:
                raise
            return refused, False
        except BaseException as error:
            exchange.fail(error)
            raise
        kind = _SizedBody if hasattr(body, "__len__") else _Body
        return kind(body, exchange, request, refuse), True


class _Request:
    """One request in hand, until it ends or turns out to be a stream that nobody should wait for."""

    __slots__ = ("_app", "_gone", "breaker", "exchange")

    def __init__(self, app: ReliabilityMiddleware) -> None:
        self._app = app
        self._gone = False
        self.breaker: CircuitBreaker | None = None
        self.exchange: Exchange | None = None

    def begins(self, headers: list[tuple[str, str]]) -> None:
        """An event stream may last for hours, and its client comes again by itself when it is cut."""
        if any(name.lower() == "content-type" and "text/event-stream" in value for name, value in headers):
            if self.exchange is not None:
                self.exchange.streams()
            self.leave()

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


class _Body:
    """The application's body, watched to its end. The server closes it once, whatever happened."""

    def __init__(
        self,
        body: Iterable[bytes],
        exchange: Exchange,
        request: _Request,
        refuse: Callable[[CircuitOpenError | DegradedError], Iterable[bytes] | None],
    ) -> None:
        self._body = body
        self._parts: Iterator[bytes] | None = None
        self._exchange = exchange
        self._request = request
        self._refuse = refuse
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._parts is None:
                self._parts = iter(self._body)
            part = next(self._parts)
        except StopIteration:
            self._exchange.complete()
            raise
        except (CircuitOpenError, DegradedError) as error:
            self._exchange.fail(error)
            refused = self._refuse(error)
            if refused is None:
                raise
            self._parts = iter(refused)
            return next(self._parts, b"")
        except BaseException as error:
            self._exchange.fail(error)
            raise
        if self._exchange.answered:
            self._exchange.flow()
        return part

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        except BaseException as error:
            self._exchange.fail(error)
            raise
        finally:
            self._exchange.lose()
            self._exchange.end()
            self._request.leave()


class _SizedBody(_Body):
    """A body of known length in parts, from which servers tell a ``Content-Length``."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


def path_of(environ: Environ) -> str:
    """The path within the application, as text."""
    path: str = environ.get("PATH_INFO", "") or "/"
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")


def _refuse(answer: Refusal | Answer, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    headers = [(name.title(), value) for name, value in answer.headers]
    start_response(f"{answer.status} {answer.reason}", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [answer.body]

"""Transports for httpx clients: each host, or one named service, behind its breaker::

client = httpx.Client(transport=regrow.httpx.BreakerTransport())
client = httpx.AsyncClient(transport=regrow.httpx.AsyncBreakerTransport(name="payments"))
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from regrow.breakers.admission import Permit
from regrow.breakers.service import CircuitBreaker, get_circuit_breaker
from regrow.errors import CircuitOpenError

HOSTS = "http"  # the breaker above those of the hosts: opening it by hand stops all of them
STREAM_ANSWERS = 1.0  # seconds after which a body that still flows has shown that the host answers

# Not the other side's fault: our pool was exhausted, our URL or our request is wrong.
_LOCAL = (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class RequestRefusedError(CircuitOpenError, httpx.ConnectError):
    """The circuit breaker refuses requests for now; nothing was sent.

    An error of httpx too, so that ``except httpx.HTTPError`` and retries for HTTP know it.
    """


class _Guard:
    """What both transports share: whose breaker, and what an answer says about it."""

    def __init__(self, name: str | None, settings: dict[str, Any]) -> None:
        self._per_host = name is None
        self._breaker = get_circuit_breaker(name or HOSTS, **settings)

    def breaker_for(self, request: httpx.Request) -> CircuitBreaker:
        if not self._per_host:
            return self._breaker
        return self._breaker.for_key(request.url.netloc.decode("ascii").lower())


def is_failure(status: int) -> bool:
    """Whether a status says that the other side cannot, or asks to be left alone."""
    return status >= 500 or status == 429


class BreakerTransport(httpx.BaseTransport):
    """A transport around ``transport`` (by default httpx's own), guarded by circuit breakers.

    ``name``: one breaker for everything; else one a host, under the breaker ``http``. ``settings`` as for
    :class:`regrow.CircuitBreaker`. Statuses of 500 and above, 429, and errors of the way there and back are
    failures; the answer, ``Retry-After`` included, reaches the caller as it came. RequestRefusedError while
    the breaker is open.
    """

    def __init__(
        self, transport: httpx.BaseTransport | None = None, *, name: str | None = None, **settings: Any
    ) -> None:
        self._transport = transport or httpx.HTTPTransport()
        self._guard = _Guard(name, settings)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            permit = self._guard.breaker_for(request).admit()
        except CircuitOpenError as refused:
            raise _refusal(refused, request) from None
        answer = _Answer(permit)
        try:
            response = self._transport.handle_request(request)
        except BaseException as error:
            answer.fail(error)
            raise
        if not answer.head(response):
            assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - a sync transport's answer
            response.stream = _Body(response.stream, answer)
        return response

    def close(self) -> None:
        self._transport.close()


class AsyncBreakerTransport(httpx.AsyncBaseTransport):
    """:class:`BreakerTransport` for ``httpx.AsyncClient``."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None = None, *, name: str | None = None, **settings: Any
    ) -> None:
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._guard = _Guard(name, settings)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            permit = await self._guard.breaker_for(request).admit_async()
        except CircuitOpenError as refused:
            raise _refusal(refused, request) from None
        answer = _Answer(permit)
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException as error:
            answer.fail(error)
            raise
        if not answer.head(response):
            assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport's
            response.stream = _AsyncBody(response.stream, answer)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Answer:
    """One request's way to its verdict; it settles the permit once."""

    def __init__(self, permit: Permit) -> None:
        self._permit = permit
        self._began = time.monotonic()
        self._took = 0.0

    def head(self, response: httpx.Response) -> bool:
        """The head has come; True when that settles it already."""
        self._took = time.monotonic() - self._began
        if is_failure(response.status_code):
            self._permit.failure()
            return True
        if response.is_closed:  # a transport that had the whole answer at hand
            self.succeed()
            return True
        return False

    def flow(self) -> None:
        if time.monotonic() - self._began - self._took > STREAM_ANSWERS:
            self.succeed()

    def succeed(self) -> None:
        self._permit.success(self._took)

    def fail(self, error: BaseException) -> None:
        if isinstance(error, _LOCAL) or not isinstance(error, Exception):
            self._permit.release()
        else:
            self._permit.failure(error)


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, answer: _Answer) -> None:
        self._stream = stream
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._stream:
                yield part
                self._answer.flow()
        except Exception as error:
            self._answer.fail(error)
            raise
        self._answer.succeed()

    def close(self) -> None:
        self._answer.succeed()  # unless it broke before: who has read enough has no complaint
        self._stream.close()


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, answer: _Answer) -> None:
        self._stream = stream
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
                self._answer.flow()
        except Exception as error:
            self._answer.fail(error)
            raise
        self._answer.succeed()

    async def aclose(self) -> None:
        self._answer.succeed()
        await self._stream.aclose()


def _refusal(refused: CircuitOpenError, request: httpx.Request) -> RequestRefusedError:
    error = RequestRefusedError(refused.name, refused.retry_after, refused.recovering)
    error.request = request
    return error

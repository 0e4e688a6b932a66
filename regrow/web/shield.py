"""What stands around every endpoint: security headers, known hosts, a limit on bodies, HEAD for every GET.

Plain ASGI, so that refusals and errors carry the headers too.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regrow.web.keys import is_loopback
from regrow.web.problems import problem

logger = structlog.get_logger(__name__)

CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)

_ALWAYS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Adds the headers that an answer did not choose for itself; answers 500 when nothing else did."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = False

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, guarded)
        except Exception:
            if began:
                raise
            logger.exception("web.failed", path=scope["path"])
            await problem(500, "this is a defect of Regrow; the log says more")(scope, receive, guarded)


class KnownHosts:
    """Refuses other Host headers with 400: a page that is open on loopback must not answer to a name that
    somebody else's DNS points there.

    ``hosts`` empty: loopback names only when ``bound_to`` is loopback, else any.
    """

    def __init__(self, app: ASGIApp, bound_to: str, hosts: Collection[str]) -> None:
        self.app = app
        self._hosts = {host.lower() for host in hosts}
        self._loopback = is_loopback(bound_to)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._knows(Headers(scope=scope).get("host", "")):
            await self.app(scope, receive, send)
            return
        await problem(400, "unknown Host header; to be reached by this name, add it to web.allowed_hosts")(
            scope, receive, send
        )

    def _knows(self, header: str) -> bool:
        host = host_of(header)
        if self._loopback:
            return is_loopback(host) or host in self._hosts
        return not self._hosts or host in self._hosts


def host_of(header: str) -> str:
    """The host of a Host header, without its port, lower case: ``[::1]:8000`` is ``[::1]``."""
    host, colon, port = header.rpartition(":")
    bare = host if colon and (port.isdecimal() or not port) else header
    return bare.lower()


class HeadAsGet:
    """HEAD is GET without the body; monitors like to ask so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def headers_only(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, headers_only)


class BodyTooLargeError(Exception):
    """A body went over the limit while it was read."""


class BodyLimit:
    """Refuses bodies above ``limit`` bytes with 413: by their declared length, or while they are read."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self.limit:
            await self._refuse(scope, receive, send)
            return
        read, began = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.limit:
                raise BodyTooLargeError
            return message

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except BodyTooLargeError:
            if began:
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = problem(413, f"the body is larger than {self.limit} bytes (MAX_CONTENT_LENGTH)")
        refusal.headers["Connection"] = "close"
        await refusal(scope, receive, send)

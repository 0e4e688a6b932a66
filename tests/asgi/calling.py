"""Both ends of an ASGI application: requests as a server makes them, and small applications to be asked."""

from __future__ import annotations

import asyncio


class Client:
    """One request: what was sent back, and what the application still hears."""

    def __init__(self, app, path="/api/x", *, method="GET", root_path="", hear=()):
        self.scope = {"type": "http", "method": method, "path": path, "root_path": root_path, "headers": []}
        self.app = app
        self.sent = []
        self.hear = [{"type": "http.request", "body": b"", "more_body": False}, *hear]
        self.gone_after = None

    async def receive(self):
        if self.hear:
            return self.hear.pop(0)
        await asyncio.sleep(60)
        raise AssertionError("the test ends before")

    async def send(self, message):
        if self.gone_after is not None and len(self.sent) >= self.gone_after:
            raise OSError("connection closed")
        self.sent.append(message)

    async def go(self):
        await self.app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def request(app, path="/api/x", **options):
    return asyncio.run(Client(app, path, **options).go())


async def start(send, status=200):
    await send({"type": "http.response.start", "status": status, "headers": []})


async def part(send, body=b"", *, more=False):
    await send({"type": "http.response.body", "body": body, "more_body": more})


def answers(status):
    async def app(scope, receive, send):
        await start(send, status)
        await part(send, b"done")

    return app


async def raises(scope, receive, send):
    raise ValueError("broken")


class Socket:
    """A server's side of a websocket."""

    def __init__(self, app, *heard, extensions=None):
        self.app = app
        self.scope = {"type": "websocket", "path": "/talk", "extensions": extensions or {}}
        self.heard = [{"type": "websocket.connect"}, *heard]
        self.sent = []

    async def receive(self):
        if not self.heard:
            await asyncio.Event().wait()
        return self.heard.pop(0)

    async def send(self, message):
        self.sent.append(message)

    async def go(self):
        await self.app(self.scope, self.receive, self.send)
        return self

    @property
    def kinds(self):
        return [message["type"] for message in self.sent]


def counted(breaker):
    """(successes, failures) that the breaker was told."""
    breaker._reporter.settle_inline(breaker._cell)
    found = breaker._reporter.memory._breakers.get(breaker.name)
    return (found.successes, found.failures) if found else (0, 0)

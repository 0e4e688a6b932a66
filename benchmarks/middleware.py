"""What the ASGI and WSGI middleware cost a request: p99 with tracking and with a breaker, above that without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from wsgiref.util import setup_testing_defaults

from benchmarks.reach import Reach, interleaved
import regrow
from regrow import asgi, wsgi
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.reporter import Reporter
from regrow.breakers.service import CircuitBreaker
from tests.servers import RedisServer

REQUESTS = 5_000
TRACKING_MS, BREAKER_MS = 0.1, 1.0

PATHS = [f"/api/v1/{noun}/" for noun in ("webhooks", "messages", "sentiment", "triggers")]


def measure() -> list[Reach]:
    server = RedisServer()
    reporter = Reporter(RedisStore.from_url(server.start().url))
    regrow.configure(redis_url=server.url)  # so that requests are told, as they are in life
    try:
        breakers = {path: CircuitBreaker(path, reporter=reporter) for path in PATHS}
        found = interleaved(
            {
                "asgi_bare": lambda: asgi_p99(answer_asgi),
                "asgi_tracking": lambda: asgi_p99(asgi.ReliabilityMiddleware(answer_asgi)),
                "asgi_breaker": lambda: asgi_p99(asgi.ReliabilityMiddleware(answer_asgi, breakers)),
                "wsgi_bare": lambda: wsgi_p99(answer_wsgi),
                "wsgi_tracking": lambda: wsgi_p99(wsgi.ReliabilityMiddleware(answer_wsgi)),
                "wsgi_breaker": lambda: wsgi_p99(wsgi.ReliabilityMiddleware(answer_wsgi, breakers)),
            }
        )
    finally:
        reporter.close()
        server.close()
    return [
        Reach(
            f"middleware_{kind}_{what}_p99_ms", found[f"{kind}_{what}"] - found[f"{kind}_bare"], "<=", target
        )
        for kind in ("asgi", "wsgi")
        for what, target in (("tracking", TRACKING_MS), ("breaker", BREAKER_MS))
    ]


async def answer_asgi(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def answer_wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def asgi_p99(app: Callable) -> float:
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message): ...

    async def run() -> list[int]:
        took = []
        for number in range(REQUESTS):
            scope = {"type": "http", "method": "GET", "path": PATHS[number % 4] + "7", "root_path": ""}
            began = time.perf_counter_ns()
            await app(scope, receive, send)
            took.append(time.perf_counter_ns() - began)
        return took

    return p99_ms(asyncio.run(run()))


def wsgi_p99(app: Callable) -> float:
    took = []
    for number in range(REQUESTS):
        environ = {"PATH_INFO": PATHS[number % 4] + "7"}
        setup_testing_defaults(environ)
        began = time.perf_counter_ns()
        body = app(environ, lambda status, headers: None)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()
        took.append(time.perf_counter_ns() - began)
    return p99_ms(took)


def p99_ms(nanoseconds: list[int]) -> float:
    return sorted(nanoseconds)[len(nanoseconds) * 99 // 100] / 1e6

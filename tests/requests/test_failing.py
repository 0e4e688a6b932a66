"""Which requests count as failed, and how the middleware tells."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import regrow
from regrow.degradation import Shedding
from regrow.errors import CircuitOpenError
from regrow.requests.failing import Failing
from tests.asgi.conftest import make_reporter

__all__ = ["make_reporter"]


def counted(app):
    """{route: (count, failed, timed)} of all that this middleware counted."""
    counts = app._counts
    found: dict[str, list[int]] = {}
    for minute in list(counts._minutes._minutes):
        for route, one in counts.of_minute(minute).items():
            row = found.setdefault(route, [0, 0, 0])
            for place, number in enumerate((one.count, one.failed, sum(one.buckets.values()))):
                row[place] += number
    return {route: tuple(row) for route, row in found.items() if row[0]}


def ask_asgi(app, gone=False):
    async def receive():
        return {"type": "http.disconnect" if gone else "http.request"}

    async def send(message): ...

    async def go():
        scope = {"type": "http", "method": "GET", "path": "/api/x", "headers": []}
        await app(scope, receive, send)

    with contextlib.suppress(ValueError, CircuitOpenError):
        asyncio.run(go())


def asgi(status=200, raises=None, whole=True, kind=b"text/plain"):
    async def app(scope, receive, send):
        await receive()
        if status:
            headers = [(b"content-type", kind)]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"x", "more_body": not whole})
        if raises is not None:
            raise raises

    return app


def ask_wsgi(app):
    with contextlib.suppress(ValueError, CircuitOpenError):
        body = app({"PATH_INFO": "/api/x", "REQUEST_METHOD": "GET"}, lambda *_: None)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()


def wsgi(status=200, raises=None):
    def app(environ, start_response):
        if raises is not None:
            raise raises
        start_response(f"{status} X", [])
        return [b"x"]

    return app


OUTCOMES = [
    ({"status": 200}, 0),
    ({"status": 404}, 0),
    ({"status": 500}, 1),
    ({"status": 0, "raises": ValueError()}, 1),
    ({"status": 200, "raises": ValueError(), "whole": False}, 1),
    ({"status": 200, "whole": False}, 1),
    ({"status": 200, "whole": False, "kind": b"text/event-stream"}, 0),
    ({"status": 0, "raises": CircuitOpenError("bank", 1.0)}, 1),
]


@pytest.mark.parametrize(("options", "failed"), OUTCOMES)
def test_what_has_failed_by_default(options, failed):
    app = regrow.asgi.ReliabilityMiddleware(asgi(**options))
    ask_asgi(app)
    assert counted(app) == {"": (1, failed, 1)}
    if set(options) <= {"status", "raises"}:
        behind = regrow.wsgi.ReliabilityMiddleware(wsgi(**options))
        ask_wsgi(behind)
        assert counted(behind) == {"": (1, failed, 1)}


def test_a_client_that_went_away_says_nothing_about_us():
    app = regrow.asgi.ReliabilityMiddleware(asgi(status=0))
    ask_asgi(app, gone=True)
    assert counted(app) == {"": (1, 0, 1)}


def test_what_counts_is_a_setting():
    only_timeouts = Failing(statuses={504}, exceptions=False, refusals=False)
    for options in ({"status": 500}, {"status": 0, "raises": ValueError()}, OUTCOMES[-1][0]):
        app = regrow.asgi.ReliabilityMiddleware(asgi(**options), failing=only_timeouts)
        ask_asgi(app)
        assert counted(app) == {"": (1, 0, 1)}
    app = regrow.asgi.ReliabilityMiddleware(asgi(status=504), failing=only_timeouts)
    ask_asgi(app)
    assert counted(app) == {"": (1, 1, 1)}


@pytest.mark.parametrize(("failing", "failed"), [(None, 1), (Failing(refusals=False), 0)])
def test_a_refusal_is_a_failure_without_a_duration_under_the_route_that_refused(
    make_reporter, failing, failed
):
    breaker = regrow.CircuitBreaker("bank", reporter=make_reporter())
    breaker.force_open(actor="test", reason="test")
    for app, ask in (
        (regrow.asgi.ReliabilityMiddleware(asgi(), {"/api": breaker}, failing=failing), ask_asgi),
        (regrow.wsgi.ReliabilityMiddleware(wsgi(), {"/api": breaker}, failing=failing), ask_wsgi),
    ):
        ask(app)
        assert counted(app) == {"bank": (1, failed, 0)}


def test_load_that_is_shed_has_failed():
    app = regrow.asgi.ReliabilityMiddleware(asgi(), shedding=Shedding(1, least=1))
    app.intake.enter()
    ask_asgi(app)
    assert counted(app) == {"": (1, 1, 0)}

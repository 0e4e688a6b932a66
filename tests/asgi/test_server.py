"""The ASGI middleware behind a real uvicorn, around a real Starlette application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from regrow.asgi import ReliabilityMiddleware
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError
from regrow.intake import Intake
from tests.breakers.callers import rested
from tests.waiting import eventually


class Shop:
    """The application, what it saw, and what it is told to do."""

    def __init__(self, breaker):
        self.broken = False
        self.streaming = threading.Event()
        self.leave = threading.Event()
        self.intake = Intake()
        self.app = Starlette(
            routes=[
                Route("/api/pay", self.pay),
                Route("/api/stream", self.stream),
                Route("/slow", self.slow),
                Route("/inner", self.inner),
            ]
        )
        self.app.add_middleware(ReliabilityMiddleware, protected={"/api/": breaker}, intake=self.intake)

    async def pay(self, request):
        if self.broken:
            raise ValueError("broken")
        return PlainTextResponse("paid")

    async def stream(self, request):
        async def parts():
            yield b"first"
            self.streaming.set()
            await asyncio.sleep(60)

        return StreamingResponse(parts())

    async def slow(self, request):
        while not self.leave.is_set():
            await asyncio.sleep(0.01)
        return PlainTextResponse("done")

    async def inner(self, request):
        raise CircuitOpenError("payments", 2.5)


@contextlib.contextmanager
def serving(app):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        eventually(lambda: server.started, 10)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def breaker(make_reporter):
    return CircuitBreaker(
        "shop", reporter=make_reporter(), failure_threshold=2, recovery_timeout=60, success_threshold=1
    )


def test_a_broken_path_opens_is_refused_and_heals_while_other_paths_go_on(breaker):
    shop = Shop(breaker)
    # uvicorn closes a connection whose application raised, at a moment that the client cannot know.
    anew = {"connection": "close"}
    with serving(shop.app) as url, httpx.Client(base_url=url, headers=anew) as client:
        assert client.get("/api/pay").text == "paid"
        shop.broken = True
        assert [client.get("/api/pay").status_code for _ in range(3)] == [500, 500, 503]
        refused = client.get("/api/pay")
        assert refused.json()["status"] == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert client.get("/inner").headers["retry-after"] == "3"
        shop.broken = False
        rested(breaker)
        eventually(lambda: client.get("/api/pay").status_code == 200, 5)
        eventually(lambda: breaker.state == "closed", 5, what="told after the answer was sent")


def test_a_client_that_hangs_up_in_a_stream_is_no_failure_and_leaves_nothing_in_hand(breaker):
    shop = Shop(breaker)
    with serving(shop.app) as url, httpx.Client(base_url=url) as client:
        for _ in range(3):
            shop.streaming.clear()
            with client.stream("GET", "/api/stream") as answer:
                assert next(answer.iter_bytes()) == b"first"
                assert shop.streaming.wait(5)
            eventually(lambda: shop.intake.in_flight == 0, 5)
        assert breaker.state == "closed"
        known = breaker._reporter.memory._breakers.get("shop")
        assert known is None or not known.window, "nothing was counted at all"


def test_a_drain_waits_for_what_is_in_hand_and_turns_the_rest_away(breaker):
    shop = Shop(breaker)
    with serving(shop.app) as url, httpx.Client(base_url=url) as client:
        answers = []
        slow = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/slow", timeout=10)))
        slow.start()
        eventually(lambda: shop.intake.in_flight == 1, 5)
        assert not shop.intake.drain(timeout=0.05)
        assert client.get("/api/pay").status_code == 503
        shop.leave.set()
        assert shop.intake.drain(timeout=5)
        slow.join(5)
        assert [answer.text for answer in answers] == ["done"]

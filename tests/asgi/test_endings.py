"""How a request may end other than by a whole answer, and what its breaker makes of it."""

from __future__ import annotations

import asyncio

import pytest

from regrow.asgi import ReliabilityMiddleware
from tests.asgi.calling import Client, answers, counted, part, request, start
from tests.waiting import eventually


class TestAClientThatGoesAway:
    """It says nothing about the service: neither success nor failure, and a probe is given back."""

    def test_while_the_application_listens(self, make):
        async def app(scope, receive, send):
            while (await receive())["type"] != "http.disconnect":
                pass
            raise ConnectionError("the framework's way to say it")

        breaker = make()
        guarded = ReliabilityMiddleware(app, {"/api": breaker})
        with pytest.raises(ConnectionError):
            request(guarded, hear=[{"type": "http.disconnect"}])
        assert counted(breaker) == (0, 0)

    def test_while_the_application_sends(self, make):
        async def app(scope, receive, send):
            await start(send)
            await part(send, b"1", more=True)
            await part(send, b"2")

        breaker = make()
        client = Client(ReliabilityMiddleware(app, {"/api": breaker}))
        client.gone_after = 2
        with pytest.raises(OSError):
            asyncio.run(client.go())
        assert counted(breaker) == (0, 0)

    def test_while_the_server_cancels(self, make):
        breaker = make()
        entered = asyncio.Event()

        async def app(scope, receive, send):
            entered.set()
            await asyncio.sleep(60)

        async def scene():
            guarded = ReliabilityMiddleware(app, {"/api": breaker})
            task = asyncio.create_task(Client(guarded).go())
            await entered.wait()
            assert guarded.in_flight == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert guarded.in_flight == 0

        asyncio.run(scene())
        assert counted(breaker) == (0, 0)

    def test_a_cancelled_probe_leaves_room_for_the_next(self, make):
        breaker = make(recovery_timeout=0.05, failure_threshold=1)
        request(ReliabilityMiddleware(answers(500), {"/api": breaker}))

        async def app(scope, receive, send):
            raise asyncio.CancelledError

        def was_cancelled():
            try:
                request(ReliabilityMiddleware(app, {"/api": breaker}))
            except asyncio.CancelledError:
                return True

        eventually(was_cancelled, 5)
        assert breaker.state == "half_open"
        well = ReliabilityMiddleware(answers(200), {"/api": breaker})
        eventually(lambda: request(well).status == 200, 1.5, what="sooner than a lease runs out")
        assert breaker.state == "closed"

    def test_but_a_500_before_it_left_counts(self, make):
        async def app(scope, receive, send):
            await start(send, 500)
            await part(send)
            await receive()
            await receive()

        breaker = make()
        request(ReliabilityMiddleware(app, {"/api": breaker}), hear=[{"type": "http.disconnect"}])
        assert counted(breaker) == (0, 1)


class TestAStream:
    def test_counts_at_its_end_and_not_before(self, make):
        breaker = make()
        seen = []

        async def app(scope, receive, send):
            await start(send)
            await part(send, b"1", more=True)
            seen.append(counted(breaker))
            await part(send, b"2")
            seen.append(counted(breaker))

        assert request(ReliabilityMiddleware(app, {"/api": breaker})).body == b"12"
        assert seen == [(0, 0), (1, 0)], "work after the answer is no part of it"

    def test_that_breaks_is_a_failure(self, make):
        async def app(scope, receive, send):
            await start(send)
            await part(send, b"1", more=True)
            raise OSError("the database went away")

        breaker = make()
        with pytest.raises(OSError):
            request(ReliabilityMiddleware(app, {"/api": breaker}))
        assert counted(breaker) == (0, 1)

    def test_that_just_stops_is_a_failure(self, make):
        async def app(scope, receive, send):
            await start(send)
            await part(send, b"1", more=True)

        breaker = make()
        request(ReliabilityMiddleware(app, {"/api": breaker}))
        assert counted(breaker) == (0, 1)

    def test_that_has_flowed_for_a_second_counts_while_it_flows(self, make, monkeypatch):
        monkeypatch.setattr("regrow.protection.STREAM_ANSWERS", 0.01)
        breaker = make(timeout=0.2)
        seen = []

        async def app(scope, receive, send):
            await start(send)
            await asyncio.sleep(0.3)
            await part(send, b"1", more=True)
            seen.append(counted(breaker))
            await part(send, b"2")

        request(ReliabilityMiddleware(app, {"/api": breaker}))
        assert seen == [(1, 0)], "its head was in time; how long it flows is up to the client"
        assert counted(breaker) == (1, 0)

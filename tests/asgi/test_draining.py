"""The ASGI middleware while its process drains: requests and websockets, those in hand and those that come."""

from __future__ import annotations

import asyncio

import pytest

from regrow.asgi import ReliabilityMiddleware
from tests.asgi.calling import Client, Socket, answers, raises, request


class TestWebsocket:
    async def talk(self, scope, receive, send):
        while (message := await receive())["type"] != "websocket.disconnect":
            answer = "accept" if message["type"] == "websocket.connect" else "send"
            await send({"type": f"websocket.{answer}"})
        self.code = message["code"]

    def test_what_has_come_is_answered_then_both_sides_are_told_to_part(self):
        async def scene():
            guarded = ReliabilityMiddleware(self.talk)
            socket = Socket(guarded, {"type": "websocket.receive", "text": "a"})
            session = asyncio.create_task(socket.go())
            while socket.heard:
                await asyncio.sleep(0)
            assert guarded.in_flight == 1
            assert await guarded.drain(timeout=5)
            await session
            assert socket.kinds == ["websocket.accept", "websocket.send", "websocket.close"]
            assert (socket.sent[-1]["code"], self.code) == (1012, 1012)

        asyncio.run(scene())

    def test_one_that_only_sends_is_told_at_its_next_send_after_the_grace(self, monkeypatch):
        monkeypatch.setattr("regrow.websockets.GRACE", 0.0)

        async def ticker(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "text": "tick"})
                await asyncio.sleep(0.01)

        async def scene():
            guarded = ReliabilityMiddleware(ticker)
            socket = Socket(guarded)
            session = asyncio.create_task(socket.go())
            while len(socket.sent) < 3:
                await asyncio.sleep(0)
            assert await guarded.drain(timeout=5)
            with pytest.raises(OSError, match="service restart"):
                await session
            assert socket.sent[-1]["code"] == 1012

        asyncio.run(scene())

    @pytest.mark.parametrize(
        ("extensions", "kinds"),
        [
            ({}, ["websocket.close"]),
            (
                {"websocket.http.response": {}},
                ["websocket.http.response.start", "websocket.http.response.body"],
            ),
        ],
    )
    def test_new_ones_are_refused_as_well_as_the_server_can_say_it(self, extensions, kinds):
        guarded = ReliabilityMiddleware(self.talk)
        guarded.intake.close()
        socket = asyncio.run(Socket(guarded, extensions=extensions).go())
        assert socket.kinds == kinds
        assert guarded.intake.traffic.turned_away == 1


class TestDrain:
    def test_new_requests_get_503_those_in_hand_end_and_liveness_goes_on(self):
        leave = asyncio.Event()

        async def app(scope, receive, send):
            if scope["path"] == "/slow":
                await leave.wait()
            await answers(200)(scope, receive, send)

        async def scene():
            guarded = ReliabilityMiddleware(app, drain_retry_after=7)
            slow = Client(guarded, "/slow")
            in_hand = asyncio.create_task(slow.go())
            while not guarded.in_flight:
                await asyncio.sleep(0)
            draining = asyncio.create_task(guarded.drain())
            await asyncio.sleep(0)
            late = await Client(guarded, "/new").go()
            assert (late.status, late.headers["retry-after"]) == (503, "7")
            assert (await Client(guarded, "/health/live").go()).status == 200
            assert not draining.done()
            leave.set()
            assert await draining
            await in_hand
            assert slow.status == 200
            guarded.intake.reopen()
            assert (await Client(guarded, "/new").go()).status == 200

        asyncio.run(scene())

    def test_readiness_says_no_before_anything_else_and_connections_are_not_kept(self):
        guarded = ReliabilityMiddleware(answers(200), readiness=["/ready"])
        assert request(guarded, "/ready").status == 200
        guarded.intake.announce()
        assert request(guarded, "/ready/deep").status == 503
        late = request(guarded, "/work")
        assert (late.status, late.headers["connection"]) == (200, "close")
        guarded.intake.close()
        assert request(guarded, "/work").headers["connection"] == "close"
        guarded.intake.reopen()
        assert "connection" not in request(guarded, "/work").headers

    def test_says_when_the_time_was_too_short(self, caplog):
        async def app(scope, receive, send):
            await asyncio.sleep(60)

        async def scene():
            guarded = ReliabilityMiddleware(app)
            task = asyncio.create_task(Client(guarded).go())
            while not guarded.in_flight:
                await asyncio.sleep(0)
            assert not await guarded.drain(timeout=0.05)
            task.cancel()

        with caplog.at_level("INFO", "regrow.intake"):
            asyncio.run(scene())
        assert [line.message for line in caplog.records] == ["drain.started", "drain.timed_out"]
        assert caplog.records[1].in_flight == 1

    def test_no_request_is_left_in_hand_however_it_ends(self, make):
        guarded = ReliabilityMiddleware(raises, {"/api": make(failure_threshold=1)})
        with pytest.raises(ValueError):
            request(guarded)
        assert request(guarded).status == 503
        with pytest.raises(ValueError):
            request(guarded, "/elsewhere")
        assert (guarded.in_flight, guarded.intake.taken) == (0, 3)

"""The ASGI middleware, called as a server calls it."""

from __future__ import annotations

import asyncio
import json

import pytest

from regrow.asgi import ReliabilityMiddleware
from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError, SettingsError
from tests.waiting import eventually


@pytest.fixture
def make(make_reporter):
    reporter = make_reporter()

    def breaker(name="messaging", **settings):
        settings = {"failure_threshold": 2, "recovery_timeout": 9.2, "success_threshold": 1, **settings}
        return CircuitBreaker(name, reporter=reporter, **settings)

    return breaker


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


def counted(breaker):
    """(successes, failures) that the breaker was told."""
    breaker._reporter.settle_inline(breaker._cell)
    found = breaker._reporter.memory._breakers.get(breaker.name)
    return (found.successes, found.failures) if found else (0, 0)


def test_an_open_breaker_answers_503_with_whole_seconds_rounded_up_and_a_problem_that_names_nothing(make):
    breaker = make()
    app = ReliabilityMiddleware(answers(500), {"/api": breaker})
    assert [request(app).status for _ in range(2)] == [500, 500]
    refused = request(app)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "10", "9.2 s are 10 whole ones"
    assert refused.headers["content-type"] == "application/problem+json"
    problem = json.loads(refused.body)
    assert (problem["status"], problem["retry_after"]) == (503, 10)
    assert int(refused.headers["content-length"]) == len(refused.body)
    assert b"messaging" not in refused.body
    assert request(app, method="HEAD").body == b""


def test_exceptions_count_and_reach_the_server(make):
    breaker = make()
    app = ReliabilityMiddleware(raises, {"/api": breaker})
    for _ in range(2):
        with pytest.raises(ValueError):
            request(app)
    assert breaker.state == "open"


@pytest.mark.parametrize("status", [200, 304, 404, 429])
def test_an_answer_below_500_is_a_success(make, status):
    breaker = make()
    request(ReliabilityMiddleware(answers(status), {"/api": breaker}))
    assert counted(breaker) == (1, 0)


def test_the_longest_prefix_wins_and_prefixes_end_at_a_slash(make):
    api, messages = make("api"), make("messages")
    app = ReliabilityMiddleware(answers(200), {"/api/": api, "/api/v1/messages/": messages})
    for path in ["/api", "/api/", "/api/x", "/apiary", "/", "/api/v1/messages", "/api/v1/messages/7"]:
        request(app, path)
    assert (counted(api), counted(messages)) == ((3, 0), (2, 0))


def test_a_path_is_told_as_the_application_itself_knows_it(make):
    breaker = make()
    app = ReliabilityMiddleware(answers(200), {"/api": breaker})
    request(app, "/shop/api/x", root_path="/shop")
    request(app, "/api/x", root_path="/other")
    request(app, "/shopping/api/x", root_path="/shop")
    assert counted(breaker) == (2, 0)


def test_a_breaker_may_be_named_or_told_with_its_settings():
    app = ReliabilityMiddleware(
        answers(500), {"/a": "asgi-by-name", "/b": {"service": "asgi-by-settings", "failure_threshold": 1}}
    )
    assert [request(app, "/b").status for _ in range(2)] == [500, 503]
    assert request(app, "/a").status == 500


@pytest.mark.parametrize(
    ("protected", "says"),
    [
        ({"api": "a"}, "begin it with a slash"),
        ({"/api": {"failure_threshold": 1}}, "'service'"),
        ({"/api": {"service": "a", "treshold": 1}}, "treshold"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_their_place(protected, says):
    with pytest.raises(SettingsError, match=says):
        ReliabilityMiddleware(answers(200), protected)


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


def test_an_answer_that_begins_too_late_is_a_failure(make):
    async def app(scope, receive, send):
        await asyncio.sleep(0.05)
        await start(send)
        await part(send)

    breaker = make(timeout=0.01)
    assert request(ReliabilityMiddleware(app, {"/api": breaker})).status == 200
    assert counted(breaker) == (0, 1)


class TestARefusalInsideTheApplication:
    def test_that_nobody_caught_becomes_a_503_and_no_failure_of_the_path(self, make):
        async def app(scope, receive, send):
            raise CircuitOpenError("payments", 3.4)

        breaker = make()
        guarded = ReliabilityMiddleware(app, {"/api": breaker})
        for path in ("/api", "/elsewhere"):
            answer = request(guarded, path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "4")
        assert counted(breaker) == (0, 0)

    def test_after_the_answer_began_goes_on_to_the_server(self, make):
        async def app(scope, receive, send):
            await start(send, 500)
            await part(send)
            raise CircuitOpenError("payments", 3.4)

        breaker = make()
        with pytest.raises(CircuitOpenError):
            request(ReliabilityMiddleware(app, {"/api": breaker}))
        assert counted(breaker) == (0, 0)


def test_lifespan_passes_through_untouched(make):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    async def receive(): ...

    async def send(message): ...

    scope = {"type": "lifespan"}
    guarded = ReliabilityMiddleware(app, {"/api": make()})
    guarded.intake.close()
    asyncio.run(guarded(scope, receive, send))
    assert seen == [(scope, receive, send)]


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

"""Both middlewares: what is served at which level, what is said instead, and load that is too much."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from regrow import asgi, wsgi
from regrow.degradation import Answer, Level, Paths, Shedding
from regrow.degradation import overload as overload_module
from regrow.degradation.state import Policy
from regrow.errors import DegradedError, SettingsError
from tests.asgi.calling import Client
from tests.degradation.test_watch import tell
from tests.wsgi.test_middleware import Answer as WsgiAnswer


class Watch:
    """A level that a test sets."""

    looked = True

    def __init__(self, level="normal"):
        self.is_, self.policy = Level(level), Policy()

    def level(self):
        return self.is_

    def start_ahead(self): ...


async def asgi_app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


def wsgi_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]


@pytest.fixture(params=["asgi", "wsgi"])
def ask(request):
    """Ask a middleware with these settings: status, headers and body of its answer."""

    def asked(method, path, app=None, **settings):
        if request.param == "asgi":
            sent = asyncio.run(
                Client(asgi.ReliabilityMiddleware(app or asgi_app, **settings), path, method=method).go()
            )
            return sent.status, sent.headers, b"".join(part.get("body", b"") for part in sent.sent[1:])
        found = WsgiAnswer(wsgi.ReliabilityMiddleware(app or wsgi_app, **settings), path, method=method)
        return found.status, {name.lower(): value for name, value in dict(found.headers).items()}, found.body

    asked.kind = request.param
    return asked


REQUESTS = ["GET /health", "POST /login", "GET /static/a.css", "GET /orders", "POST /orders", "GET /export"]


@pytest.mark.parametrize(
    ("level", "served"), [("normal", 6), ("minor", 5), ("moderate", 4), ("severe", 3), ("critical", 1)]
)
def test_each_level_serves_its_kinds(ask, level, served):
    paths = Paths({"/export": "extra"}, watch=Watch(level))
    told = [ask(*request.split(), degradation=paths)[0] for request in REQUESTS]
    assert told == [200] * served + [503] * (len(REQUESTS) - served)


def test_what_is_said_instead(ask):
    paths = Paths(
        {"/recommendations": "extra"},
        answers={"/recommendations": Answer.json([])},
        retry_after=12,
        watch=Watch("critical"),
    )
    status, headers, body = ask("GET", "/orders", degradation=paths)
    assert (status, headers["retry-after"], headers["content-type"]) == (
        503,
        "12",
        "application/problem+json",
    )
    assert json.loads(body)["status"] == 503
    assert b"critical" not in body  # whoever is told to wait need not know what we are made of
    assert ask("GET", "/recommendations/7", degradation=paths)[::2] == (200, b"[]")
    assert ask("POST", "/recommendations/7", degradation=paths)[0] == 503


def test_the_settings_reach_the_application_and_its_own_words_are_stronger(ask):
    watch = Watch("minor")
    paths = Paths({"/mine": "core"}, watch=watch)
    assert ask("GET", "/theirs", degradation=paths)[0] == 200
    watch.policy = Policy(
        permits={"minor": ("status", "core")},
        paths={"/theirs": "extra", "/mine": "extra", "/health": "status"},
    )
    assert ask("GET", "/theirs", degradation=paths)[0] == 503
    assert ask("GET", "/mine", degradation=paths)[0] == 200
    watch.policy = Policy(permits={"minor": ("a kind of another version",)})
    assert ask("GET", "/mine", degradation=paths)[0] == 200  # what was understood last


def test_a_feature_that_is_off_inside_the_application_is_the_same_answer(ask):
    def refuses(*_):
        raise DegradedError("exports", "minor", "normal", 7.0)

    async def refuses_async(*_):
        refuses()

    status, headers, _ = ask("GET", "/x", refuses if ask.kind == "wsgi" else refuses_async)
    assert (status, headers["retry-after"]) == (503, "7")


def test_the_first_request_waits_for_the_level_and_holds_nobody_up(redis_url, this_process):
    tell(redis_url, "critical")
    this_process(redis_url)
    app = asgi.ReliabilityMiddleware(asgi_app, degradation=Paths())

    async def two():
        first, second = Client(app, "/orders"), Client(app, "/health")
        await asyncio.gather(first.go(), second.go())
        return first.status, second.status

    assert asyncio.run(two()) == (503, 200)


def test_paths_that_cannot_be():
    with pytest.raises(SettingsError):
        Paths({"/a": "luxury"}, watch=Watch())
    with pytest.raises(SettingsError):
        Paths(answers={"a": Answer.json([])}, watch=Watch())
    with pytest.raises(SettingsError):
        Paths(permits={"awful": ()}, watch=Watch())


# Load -----------------------------------------------------------------------------------------------------


def test_too_much_at_once_is_turned_away_the_less_important_first():
    entered, let_go = [], None

    async def slow(scope, receive, send):
        entered.append(scope["path"])
        await let_go.wait()
        await asgi_app(scope, receive, send)

    async def crowd():
        nonlocal let_go
        let_go = asyncio.Event()
        shedding = Shedding(10, lag=60, priorities={"/checkout": "high", "/ads": "low"})
        app = asgi.ReliabilityMiddleware(slow, shedding=shedding)
        clients = [Client(app, path) for path in ["/ads"] * 20 + ["/orders"] * 20 + ["/checkout"] * 20]
        going = [asyncio.create_task(client.go()) for client in clients]
        while len(entered) < 10:
            await asyncio.sleep(0)
        let_go.set()
        await asyncio.gather(*going)
        later = await Client(app, "/ads").go()
        return clients, later, app.in_flight

    clients, later, left = asyncio.run(crowd())
    assert sorted(entered[:10]) == ["/ads"] * 6 + ["/checkout"] + ["/orders"] * 3
    refused = [client for client in clients if client.status == 503]
    assert len(refused) == 50
    assert refused[0].headers["retry-after"] == "2"
    assert (later.status, left) == (200, 0)


def test_a_process_that_is_late_sheds_and_recovers(monkeypatch):
    monkeypatch.setattr(overload_module, "EVERY", 0.01)
    shedding = Shedding(50, least=2, lag=0.2)
    hold_up = True

    async def busy(scope, receive, send):
        if hold_up:
            time.sleep(0.02)  # work that holds up the loop
        await asyncio.sleep(0.001)
        await asgi_app(scope, receive, send)

    async def load():
        nonlocal hold_up
        app = asgi.ReliabilityMiddleware(busy, shedding=shedding)
        statuses = []

        async def visit():
            statuses.append((await Client(app, "/x").go()).status)

        until = time.monotonic() + 20
        while 503 not in statuses and time.monotonic() < until:
            await asyncio.gather(*(visit() for _ in range(40)))
        shed = 503 in statuses
        hold_up = False
        until = time.monotonic() + 20
        while time.monotonic() < until:
            statuses.clear()
            await asyncio.gather(*(visit() for _ in range(10)))
            await asyncio.sleep(0.02)
            if 503 not in statuses and shedding.load.limit > 20:
                return shed, True
        return shed, False

    assert asyncio.run(load()) == (True, True)

"""The ASGI middleware, called as a server calls it: what is guarded, what counts, what is answered."""

from __future__ import annotations

import asyncio
import json

import pytest

from regrow.asgi import ReliabilityMiddleware
from regrow.errors import CircuitOpenError, SettingsError
from tests.asgi.calling import answers, counted, part, raises, request, start


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

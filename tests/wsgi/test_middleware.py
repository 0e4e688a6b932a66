"""The WSGI middleware, called as a server calls it, checked by wsgiref's validator, and behind a server."""

from __future__ import annotations

import contextlib
import json
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import httpx
import pytest

from regrow.breakers.service import CircuitBreaker
from regrow.errors import CircuitOpenError
from regrow.wsgi import ReliabilityMiddleware
from tests.breakers.callers import rested
from tests.waiting import eventually


@pytest.fixture
def make(make_reporter):
    reporter = make_reporter()

    def breaker(name="messaging", **settings):
        settings = {"failure_threshold": 2, "recovery_timeout": 9.2, "success_threshold": 1, **settings}
        return CircuitBreaker(name, reporter=reporter, **settings)

    return breaker


class Answer:
    def __init__(self, app, path="/api/x", *, method="GET", read=True):
        environ = {"PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "REQUEST_METHOD": method}
        setup_testing_defaults(environ)
        self.status, self.headers = 0, {}
        self.parts = app(environ, self.start)
        self.body = b""
        try:
            if read:
                self.body = b"".join(self.parts)
        finally:
            self.close()

    def close(self):
        if hasattr(self.parts, "close"):
            self.parts.close()

    def start(self, status, headers, exc_info=None):
        self.status = int(status[:3])
        self.headers = {name.lower(): value for name, value in headers}
        return lambda data: None


def answers(status, parts=(b"done",)):
    def app(environ, start_response):
        start_response(f"{status} Some Reason", [("Content-Type", "text/plain")])
        return list(parts)

    return app


def raises(environ, start_response):
    raise ValueError("broken")


def counted(breaker):
    breaker._reporter.settle_inline(breaker._cell)
    found = breaker._reporter.memory._breakers.get(breaker.name)
    return (found.successes, found.failures) if found else (0, 0)


def test_an_open_breaker_answers_503_with_whole_seconds_rounded_up_and_a_problem(make):
    app = validator(ReliabilityMiddleware(validator(answers(500)), {"/api": make()}))
    assert [Answer(app).status for _ in range(2)] == [500, 500]
    refused = Answer(app)
    assert (refused.status, refused.headers["retry-after"]) == (503, "10")
    assert json.loads(refused.body)["retry_after"] == 10
    assert Answer(app, method="HEAD").body == b""


def test_exceptions_count_and_reach_the_server(make):
    breaker = make()
    app = ReliabilityMiddleware(raises, {"/api": breaker})
    for _ in range(2):
        with pytest.raises(ValueError):
            Answer(app)
    assert (breaker.state, app.in_flight) == ("open", 0)


@pytest.mark.parametrize("status", [200, 304, 404, 429])
def test_an_answer_below_500_is_a_success(make, status):
    breaker = make()
    Answer(ReliabilityMiddleware(answers(status), {"/api": breaker}))
    assert counted(breaker) == (1, 0)


def test_an_error_that_replaces_an_answer_before_it_was_sent_is_the_answer(make):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        start_response("500 Oh", [("Content-Type", "text/plain")], (ValueError, ValueError(), None))
        return [b"broken"]

    breaker = make()
    assert Answer(ReliabilityMiddleware(app, {"/api": breaker})).status == 500
    assert counted(breaker) == (0, 1)


def test_paths_outside_ascii_are_told_as_text(make):
    breaker = make()
    app = ReliabilityMiddleware(answers(200), {"/café": breaker})
    Answer(app, "/café/x".encode().decode("latin-1"))
    assert counted(breaker) == (1, 0)


class TestAStream:
    def test_is_in_hand_until_it_is_closed_and_counts_at_its_end(self, make):
        breaker = make()
        closed = []

        class Parts:
            def __init__(self):
                self.left = [b"1", b"2"]

            def __iter__(self):
                return self

            def __next__(self):
                if not self.left:
                    raise StopIteration
                return self.left.pop(0)

            def close(self):
                closed.append(True)

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return Parts()

        guarded = ReliabilityMiddleware(app, {"/api": breaker})
        environ = {"PATH_INFO": "/api"}
        setup_testing_defaults(environ)
        body = guarded(environ, lambda *_: None)
        assert next(body) == b"1"
        assert (guarded.in_flight, counted(breaker)) == (1, (0, 0))
        assert list(body) == [b"2"]
        assert (guarded.in_flight, counted(breaker)) == (1, (1, 0))
        body.close()
        body.close()
        assert (guarded.in_flight, closed) == (0, [True])

    def test_that_the_client_gave_up_says_nothing(self, make):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"1"
            yield b"2"

        breaker = make()
        guarded = ReliabilityMiddleware(app, {"/api": breaker})
        Answer(guarded, read=False)
        assert (counted(breaker), guarded.in_flight) == ((0, 0), 0)

    def test_that_breaks_is_a_failure(self, make):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"1"
            raise ValueError("broken")

        breaker = make()
        guarded = ReliabilityMiddleware(app, {"/api": breaker})
        with pytest.raises(ValueError):
            Answer(guarded)
        assert (counted(breaker), guarded.in_flight) == ((0, 1), 0)


@pytest.mark.parametrize("lazily", [False, True])
def test_a_refusal_inside_the_application_that_nobody_caught_becomes_a_503(make, lazily):
    def refuse(environ, start_response):
        raise CircuitOpenError("payments", 3.4)

    def refuse_lazily(environ, start_response):
        yield from refuse(environ, start_response)

    breaker = make()
    guarded = ReliabilityMiddleware(refuse_lazily if lazily else refuse, {"/api": breaker})
    for path in ("/api", "/elsewhere"):
        answer = Answer(guarded, path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "4")
        assert json.loads(answer.body)["retry_after"] == 4
    assert (counted(breaker), guarded.in_flight) == ((0, 0), 0)


def test_known_lengths_stay_known_and_files_are_served(make, tmp_path):
    guarded = ReliabilityMiddleware(answers(200, [b"one"]))
    environ = {"PATH_INFO": "/"}
    setup_testing_defaults(environ)
    body = guarded(environ, lambda *_: None)
    assert len(body) == 1
    body.close()
    (tmp_path / "file").write_bytes(b"x" * 20_000)

    def file(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return FileWrapper((tmp_path / "file").open("rb"))

    assert len(Answer(ReliabilityMiddleware(file)).body) == 20_000


class Quiet(WSGIRequestHandler):
    def log_message(self, *args): ...


@contextlib.contextmanager
def serving(app):
    server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
    server.RequestHandlerClass.protocol_version = "HTTP/1.0"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_behind_a_real_server_a_broken_path_opens_is_refused_and_heals(make):
    breaker = make(recovery_timeout=60)
    broken = threading.Event()

    def app(environ, start_response):
        return answers(500 if broken.is_set() else 200)(environ, start_response)

    with serving(ReliabilityMiddleware(app, {"/api/": breaker})) as url:
        paid = httpx.get(f"{url}/api/pay")
        assert (paid.text, paid.headers["content-length"]) == ("done", "4")
        broken.set()
        assert [httpx.get(f"{url}/api/pay").status_code for _ in range(3)] == [500, 500, 503]
        assert 1 <= int(httpx.get(f"{url}/api/pay").headers["retry-after"]) <= 60
        broken.clear()
        rested(breaker)
        eventually(lambda: httpx.get(f"{url}/api/pay").status_code == 200, 5)
        eventually(lambda: breaker.state == "closed", 5, what="told after the answer was sent")


def test_a_drain_waits_for_what_is_in_hand_and_turns_the_rest_away(caplog):
    entered, leave = threading.Event(), threading.Event()

    def app(environ, start_response):
        entered.set()
        leave.wait(10)
        return answers(200)(environ, start_response)

    guarded = ReliabilityMiddleware(app)
    answered = []
    thread = threading.Thread(target=lambda: answered.append(Answer(guarded, "/slow").status))
    thread.start()
    assert entered.wait(5)
    with caplog.at_level("INFO", "regrow.intake"):
        assert not guarded.drain(timeout=0.05)
        assert Answer(guarded, "/new").status == 503
        leave.set()
        assert Answer(guarded, "/health/live").status == 200
        assert guarded.drain(timeout=5)
    thread.join(5)
    assert answered == [200]
    assert [line.message for line in caplog.records] == [
        "drain.started",
        "drain.timed_out",
        "drain.started",
        "drain.finished",
    ]

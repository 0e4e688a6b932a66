"""@retry and @retry_http_requests, carried out with a clock and a sleep of the test's own."""

from __future__ import annotations

import asyncio
import http.server
import threading
import urllib.error
import urllib.request

import httpx
import pytest

from regrow import CircuitOpenError, retry, retry_http_requests
from regrow.retries.http import is_passing


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds):
        self.sleep(seconds)

    def options(self, **settings):
        return {"sleep": self.sleep, "sleep_async": self.sleep_async, "clock": lambda: self.now, **settings}


class Flaky:
    def __init__(self, failures, error=None):
        self.left = failures
        self.calls = 0
        self.error = error or OSError("flaky")

    def __call__(self, value=None):
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return value

    async def later(self, value=None):
        return self(value)


class Answers(Flaky):
    """Raises the errors it is given, in order, then answers."""

    def __init__(self, *errors):
        super().__init__(0)
        self.errors = list(errors)

    def __call__(self, value=None):
        if self.errors:
            raise self.errors.pop(0)
        return value


def call(kind, flaky, *args, **settings):
    if kind == "plain":
        return retry(**settings)(flaky.__call__)(*args)
    return asyncio.run(retry(**settings)(flaky.later)(*args))


kinds = pytest.mark.parametrize("kind", ["plain", "async"])


@kinds
def test_it_tries_again_until_it_works(kind):
    time, flaky = Time(), Flaky(3)
    assert call(kind, flaky, 42, **time.options(jitter="none")) == 42
    assert (flaky.calls, time.pauses) == (4, [1, 2, 4])


@kinds
def test_in_the_end_the_last_error_reaches_the_caller_with_a_note(kind):
    time, flaky = Time(), Flaky(10)
    with pytest.raises(OSError, match="flaky") as caught:
        call(kind, flaky, **time.options(max_retries=2, jitter="none"))
    assert flaky.calls == 3
    assert "gave up after 3 tries in 3.0 s" in caught.value.__notes__[-1]


@kinds
def test_other_errors_are_not_tried_again(kind):
    time, flaky = Time(), Flaky(1, KeyError("x"))
    with pytest.raises(KeyError):
        call(kind, flaky, **time.options(on=OSError))
    assert time.pauses == []


@kinds
def test_the_deadline_counts_the_time_of_the_tries_too(kind):
    time = Time()
    flaky = Flaky(10)
    with pytest.raises(OSError, match="flaky"):
        call(kind, flaky, **time.options(max_retries=9, strategy="fixed", jitter="none", deadline=3.5))
    assert flaky.calls == 4


@kinds
def test_under_an_open_breaker_it_waits_instead_of_burning_its_tries(kind):
    time, refused = Time(), CircuitOpenError("payments", 42.0)
    answers = [OSError(), refused, refused, refused, OSError(), refused]
    fetch = Answers(*answers)
    assert call(kind, fetch, 1, **time.options(max_retries=2, jitter="none")) == 1
    assert time.pauses == [1.0, 42.0, 42.0, 42.0, 2.0, 42.0]


@kinds
def test_waiting_for_breakers_ends_when_all_of_it_would_take_too_long(kind):
    time, flaky = Time(), Flaky(99, CircuitOpenError("payments", 40.0))
    with pytest.raises(CircuitOpenError):
        call(kind, flaky, **time.options(jitter="none", max_retry_after=100))
    assert time.pauses == [40.0, 40.0]


@kinds
def test_waiting_for_breakers_ends_at_the_deadline(kind):
    time, flaky = Time(), Flaky(99, CircuitOpenError("payments", 4.0))
    with pytest.raises(CircuitOpenError):
        call(kind, flaky, **time.options(jitter="none", deadline=9))
    assert time.pauses == [4.0, 4.0]


def test_a_breaker_that_says_now_is_not_asked_in_a_spin():
    time, flaky = Time(), Flaky(99, CircuitOpenError("payments", 0.0))
    with pytest.raises(CircuitOpenError):
        call("plain", flaky, **time.options(base_delay=0, max_retry_after=1))
    assert len(time.pauses) <= 10


def test_without_retries_nothing_waits_for_a_breaker():
    time, flaky = Time(), Flaky(1, CircuitOpenError("payments", 1.0))
    with pytest.raises(CircuitOpenError):
        call("plain", flaky, **time.options(max_retries=0))
    assert time.pauses == []


def test_cancellation_is_never_retried():
    time, flaky = Time(), Flaky(1, asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        call("async", flaky, **time.options(on=BaseException))
    assert flaky.calls == 1


def test_every_retry_is_one_log_line(caplog):
    time = Time()
    with caplog.at_level("INFO", logger="regrow.retries"):
        call("plain", Flaky(2), **time.options(jitter="none"))
    lines = [(line.message, line.attempt, line.delay, line.error) for line in caplog.records]
    assert lines == [("retry.attempt", 1, 1.0, "OSError: flaky"), ("retry.attempt", 2, 2.0, "OSError: flaky")]


def test_the_decorated_function_keeps_its_name_and_kind():
    @retry()
    async def fetch():
        """Fetches."""

    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetches.")
    assert asyncio.iscoroutinefunction(fetch)


def test_a_generator_is_refused_because_retrying_it_would_retry_nothing():
    with pytest.raises(TypeError, match="generator"):

        @retry()
        def numbers():
            yield 1


class Server(http.server.ThreadingHTTPServer):
    """Answers with the statuses it is given, then with 200."""

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.requests = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*answers):
        server = Server(*answers)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class TestHttp:
    def test_a_response_that_will_pass_is_asked_for_again(self, serve):
        time, server = Time(), serve((503, {}), (502, {}), (429, {"Retry-After": "7"}))
        fetch = retry_http_requests(**time.options(jitter="none"))(lambda: httpx.get(server.url))
        assert fetch().status_code == 200
        assert time.pauses == [1, 2, 7]

    def test_a_raised_status_is_asked_for_again(self, serve):
        time, server = Time(), serve((504, {}))

        @retry_http_requests(**time.options())
        def fetch():
            return httpx.get(server.url).raise_for_status()

        assert fetch().status_code == 200
        assert server.requests == 2

    def test_the_last_response_is_returned_when_it_never_passes(self, serve):
        time, server = Time(), serve(*[(503, {})] * 9)
        fetch = retry_http_requests(max_retries=2, **time.options())(lambda: httpx.get(server.url))
        assert fetch().status_code == 503
        assert server.requests == 3

    @pytest.mark.parametrize("status", [400, 401, 404, 500])
    def test_an_answer_that_was_meant_is_not_asked_for_again(self, serve, status):
        time, server = Time(), serve((status, {}))

        @retry_http_requests(**time.options())
        def fetch():
            return httpx.get(server.url).raise_for_status()

        with pytest.raises(httpx.HTTPStatusError):
            fetch()
        assert server.requests == 1

    def test_a_refused_connection_is_tried_again(self):
        time = Time()
        fetch = retry_http_requests(**time.options())(lambda: httpx.get("http://127.0.0.1:1/"))
        with pytest.raises(httpx.ConnectError):
            fetch()
        assert len(time.pauses) == 3

    def test_a_breaker_around_the_request_is_waited_for(self, serve):
        time, refusals = Time(), [CircuitOpenError("shop", 6.0)]

        @retry_http_requests(**time.options(jitter="none"))
        def fetch():
            if refusals:
                raise refusals.pop()
            return httpx.get(server.url)

        server = serve()
        assert fetch().status_code == 200
        assert time.pauses == [6.0]

    def test_the_standard_librarys_client_is_known_too(self, serve):
        time, server = Time(), serve((503, {"Retry-After": "3"}))

        @retry_http_requests(**time.options(jitter="none"))
        def fetch(url):
            with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own server
                return answer.status

        assert fetch(server.url) == 200
        assert time.pauses == [3]
        with pytest.raises(urllib.error.URLError):
            fetch("http://127.0.0.1:1/")
        assert len(time.pauses) == 4

    def test_a_response_that_calls_its_status_otherwise_is_known_and_no_other_thing_with_one(self):
        class Answer:  # as aiohttp's
            def __init__(self, status, **headers):
                self.status, self.headers = status, headers

        class Job:
            status = 503

        answers, time = [Answer(200), Answer(503, **{"Retry-After": "3"})], Time()
        fetch = retry_http_requests(**time.options(jitter="none"))(answers.pop)
        assert fetch().status == 200
        assert time.pauses == [3]
        assert retry_http_requests(**time.options())(Job)().status == 503
        assert time.pauses == [3]

    def test_requests_is_known_too(self):
        requests = pytest.importorskip("requests")
        assert is_passing(requests.ConnectionError())
        assert is_passing(requests.Timeout())
        assert not is_passing(requests.exceptions.SSLError())
        assert not is_passing(requests.exceptions.InvalidURL())

    def test_an_async_client_is_retried_too(self, serve):
        time, server = Time(), serve((503, {}))

        @retry_http_requests(**time.options())
        async def fetch():
            async with httpx.AsyncClient() as client:
                return await client.get(server.url)

        assert asyncio.run(fetch()).status_code == 200
        assert not is_passing(httpx.UnsupportedProtocol("x"))
        assert is_passing(httpx.ReadTimeout("x"))

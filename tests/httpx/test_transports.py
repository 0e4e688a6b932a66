"""httpx behind breakers: real clients against a real server."""

from __future__ import annotations

import asyncio
import copy
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

import regrow
from regrow import testing
from regrow.errors import CircuitOpenError, StoreUnavailableError
from regrow.httpx import AsyncBreakerTransport, BreakerTransport, RequestRefusedError
from tests.breakers.callers import rested
from tests.waiting import eventually

SETTINGS = {"failure_threshold": 2, "recovery_timeout": 60, "success_threshold": 1}


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append(self.path)
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        status = self.server.status
        self.send_response(status)
        self.send_header("Content-Length", "4")
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(b"body")

    def log_message(self, *args): ...


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    server.status, server.seen = 200, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


class Sync:
    def __init__(self, name, **settings):
        self.client = httpx.Client(transport=BreakerTransport(name=name, **(settings or SETTINGS)))

    def get(self, url):
        return self.client.get(url)

    def begin(self, url):
        with self.client.stream("GET", url) as response:
            return response.status_code


class Async:
    """The same through the other transport, one event loop a request."""

    def __init__(self, name, **settings):
        self.name, self.settings = name, settings or SETTINGS

    def client(self):
        return httpx.AsyncClient(transport=AsyncBreakerTransport(name=self.name, **self.settings))

    def get(self, url):
        async def go():
            async with self.client() as client:
                return await client.get(url)

        return asyncio.run(go())

    def begin(self, url):
        async def go():
            async with self.client() as client, client.stream("GET", url) as response:
                return response.status_code

        return asyncio.run(go())


@pytest.fixture(params=[Sync, Async])
def client(request):
    return request.param(f"httpx-{request.node.name}".translate({91: "-", 93: None}))


def breaker_of(client):
    name = client.name if isinstance(client, Async) else client.client._transport._guard._breaker.name
    return regrow.get_circuit_breaker(name)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_host_that_fails_is_left_alone_and_found_well_again(client, site, status):
    site.status = status
    assert [client.get(site.url).status_code for _ in range(2)] == [status, status]
    with pytest.raises(RequestRefusedError) as caught:
        client.get(site.url)
    assert 0 < caught.value.retry_after <= 60
    assert str(caught.value.request.url).rstrip("/") == site.url
    assert len(site.seen) == 2, "the refused request was not sent"
    site.status = 200
    rested(breaker_of(client))

    def answered():
        try:
            return client.get(site.url).text == "body"
        except httpx.HTTPError:
            return False

    eventually(answered, 5)
    assert breaker_of(client).state == "closed"


@pytest.mark.parametrize("status", [200, 404, 410])
def test_an_answer_that_was_meant_is_a_success(client, site, status):
    site.status = status
    for _ in range(3):
        client.get(site.url)
    assert breaker_of(client).state == "closed"


def test_a_host_that_cannot_be_reached_and_an_answer_that_breaks_off_are_failures(client, site):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError):
            client.get(f"http://127.0.0.1:{nobody.getsockname()[1]}")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"{site.url}/cut")
    assert breaker_of(client).state == "open"


def test_who_has_read_enough_has_no_complaint(client, site):
    for _ in range(3):
        assert client.begin(site.url) == 200
    assert breaker_of(client).state == "closed"


def test_our_own_mistakes_are_not_the_hosts(client):
    for _ in range(3):
        with pytest.raises(httpx.UnsupportedProtocol):
            client.get("ftp://127.0.0.1/")
    assert breaker_of(client).state == "closed"


def ordered(order):
    """Orders need Redis, which a machine that is busy may keep from answering in time."""

    def done():
        try:
            order()
        except StoreUnavailableError:
            return False
        return True

    eventually(done, 10)


def test_each_host_has_its_own_breaker_under_one_that_stops_them_all(site):
    with httpx.Client(transport=BreakerTransport()) as client:
        hosts = client._transport._guard._breaker
        other = site.url.replace("127.0.0.1", "localhost")
        site.status = 500
        for _ in range(5):
            client.get(site.url)
        with pytest.raises(RequestRefusedError) as caught:
            client.get(site.url)
        assert caught.value.name == f"http:127.0.0.1:{site.server_port}"
        assert client.get(other).status_code == 500, "another name is another host"
        ordered(lambda: hosts.force_open(actor="ann", reason="no more requests"))
        with pytest.raises(RequestRefusedError, match="'http'"):
            client.get(other)
        ordered(lambda: hosts.reset(actor="ann"))
        assert client.get(other).status_code == 500


def test_retries_for_http_wait_behind_an_open_breaker_and_then_get_their_answer(site):
    with (
        testing.alone() as clock,
        httpx.Client(transport=BreakerTransport(name="httpx-retries", **SETTINGS)) as client,
    ):
        site.status = 500
        for _ in range(2):
            client.get(site.url)

        def wait(seconds):
            site.status = 200
            clock.sleep(seconds)

        @regrow.retry_http_requests(max_retries=5, base_delay=0.05, sleep=wait)
        def ask():
            return client.get(site.url)

        assert ask().text == "body"
        assert sum(clock.pauses) >= 60, "as long as the breaker asked, not as short as the policy would have"


def test_retry_after_of_an_answer_reaches_the_retries(site):
    site.status = 429
    with httpx.Client(transport=BreakerTransport(name="httpx-hint", **SETTINGS)) as client:
        assert client.get(site.url).headers["retry-after"] == "0"


def test_whole_answers_of_other_transports_count_too(site):
    mock = httpx.MockTransport(lambda request: httpx.Response(200, text="here"))
    with httpx.Client(transport=BreakerTransport(mock, name="httpx-mock", **SETTINGS)) as client:
        assert client.get("http://here/").text == "here"
    breaker = regrow.get_circuit_breaker("httpx-mock")
    eventually(lambda: breaker._reporter.memory._breakers["httpx-mock"].successes == 1, 5)


def test_the_refusal_is_an_error_of_both_and_survives_being_sent():
    error = copy.copy(RequestRefusedError("payments", 2.5))
    assert isinstance(error, CircuitOpenError)
    assert isinstance(error, httpx.HTTPError)
    assert (error.name, error.retry_after) == ("payments", 2.5)

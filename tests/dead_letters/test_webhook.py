"""Letters that go home by a signed POST, against a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from regrow.dead_letters import redriving, service, signature
from regrow.dead_letters.captured import of_message
from regrow.dead_letters.routes.webhook import meaning
from regrow.engine import Engine
from regrow.errors import SettingsError
from tests.dead_letters.conftest import Clock, free

OLD, NEW = "0123456789abcdef", "fedcba9876543210"


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.headers, self.text = 204, {}, b""
        self.silent = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A sender that gave up is no error of ours."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/letters"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        if self.server.silent.is_set():
            self.server.silent.wait(0)
            threading.Event().wait(2)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.text)))
        self.end_headers()
        self.wfile.write(self.server.text)

    def do_GET(self) -> None:
        self.server.seen.append((self.path, {}, b"followed a redirect"))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def engine(
    make_settings: Callable[..., object], tmp_path: Path, clock: Clock, receiver: Receiver
) -> Iterator[Engine]:
    """An engine that sends the message type ``invoice`` to the receiver, signed with two keys from a file."""
    (tmp_path / "keys").write_text(f"{NEW}\n{OLD}\n")
    (tmp_path / "regrow.toml").write_text(
        f"""
        [dead_letters.routes.invoice]
        kind = "webhook"
        url = "{receiver.url}"
        signing_keys_file = "{tmp_path / "keys"}"
        timeout = 0.5
        headers = {{ Authorization = "Bearer abc" }}
        """
    )
    settings = make_settings(REGROW_CONFIG=str(tmp_path / "regrow.toml"), REGROW_DEAD_LETTERS__MAX_DELAY="60")
    engine = Engine(settings, clock=clock)
    engine.database.upgrade()
    yield engine
    engine.close()


def _capture(engine: Engine, **more: object) -> str:
    made = of_message(
        {"url": "http://169.254.169.254/", "n": 1}, message_type="invoice", service="books", **more
    )
    return service.capture(engine, made)


def _redrive(engine: Engine, clock: Clock) -> dict[str, int]:
    clock.advance(3600)
    return redriving.process_batch(engine, held=free)


def test_a_2xx_settles_and_the_receiver_can_verify_it_with_either_key(
    engine: Engine, clock: Clock, receiver: Receiver
) -> None:
    event = _capture(engine, idempotency_key="rechnung-ä\n1")
    assert _redrive(engine, clock)["resolved"] == 1
    ((path, headers, body),) = receiver.seen
    letter = service.show(engine, event).letter
    assert (path, json.loads(body)["n"]) == ("/letters", 1)
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer abc"
    assert headers["Idempotency-Key"] == "rechnung-%C3%A4%0A1"
    assert (headers["Regrow-Letter"], headers["Regrow-Attempt"]) == (letter.id, "1")
    signed, now = headers["Regrow-Signature"], clock.now.timestamp()
    assert signature.verify(signed, body, [OLD], now)
    assert signature.verify(signed, body, ["another key of theirs", NEW], now + 299)
    assert not signature.verify(signed, body + b" ", [OLD, NEW], now)
    assert not signature.verify(signed, body, ["0123456789abcdeF"], now)
    assert not signature.verify(signed, body, [OLD], now + 301)
    assert not signature.verify(signed, body, [OLD], now - 301)


@pytest.mark.parametrize("header", ["", "t=1", "v1=00", "t=1,t=1,v1=", "t=x,v1=00", "t=²,v1=00"])
def test_a_signature_that_is_none_is_no_error(header: str) -> None:
    assert not signature.verify(header, b"", ["k"], 1.0)


def test_503_waits_as_long_as_it_asks_and_keeps_what_it_said(
    engine: Engine, clock: Clock, receiver: Receiver
) -> None:
    event = _capture(engine)
    receiver.status, receiver.text = 503, b"down\x1b[31m for\nmaintenance" + b"x" * 9000
    receiver.headers = {"Retry-After": "7"}
    assert _redrive(engine, clock)["failed"] == 1
    found = service.show(engine, event)
    assert (found.letter.state, found.letter.attempts) == ("pending", 1)
    assert found.letter.due_at - clock.now >= timedelta(seconds=7)
    error = found.attempts[0].error
    assert error.startswith(f"{receiver.url} answered 503: down [31m for maintenancexxx")
    assert len(error) < 300


def test_a_redirect_is_not_followed(engine: Engine, clock: Clock, receiver: Receiver) -> None:
    event = _capture(engine)
    receiver.status, receiver.headers = 302, {"Location": f"{receiver.url}/elsewhere"}
    assert _redrive(engine, clock)["quarantined"] == 1
    assert "declare the new address" in service.show(engine, event).letter.reason
    assert len(receiver.seen) == 1


def test_silence_is_a_failure_in_bounded_time(engine: Engine, clock: Clock, receiver: Receiver) -> None:
    event = _capture(engine)
    receiver.silent.set()
    assert _redrive(engine, clock)["failed"] == 1
    assert "did not answer: httpx.ReadTimeout" in service.show(engine, event).attempts[0].error


def test_nobody_there_is_a_failure(engine: Engine, clock: Clock, receiver: Receiver) -> None:
    event = _capture(engine)
    receiver.shutdown()
    receiver.server_close()
    assert _redrive(engine, clock)["failed"] == 1
    assert "did not answer: httpx.ConnectError" in service.show(engine, event).attempts[0].error


def test_what_an_answer_means() -> None:
    assert {s for s in range(100, 600) if meaning(s) == "settled"} == set(range(200, 300))
    passing = {401, 403, 407, 408, 409, 421, 423, 425, 429}
    assert {s for s in range(100, 600) if meaning(s) == "failed"} == passing | set(range(500, 600))
    assert {meaning(s) for s in (301, 400, 404, 410, 413, 422)} == {"refused"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("url = 'http://hooks.example.com/x'", "letters travel over https"),
        ("url = 'http://127.evil.example.com/x'", "letters travel over https"),
        ("url = 'https://me:pw@hooks.example.com/x'", "user and password do not belong into the URL"),
        ("url = 'file:///etc/passwd'", "URL scheme should be"),
        ("url = 'https://hooks.example.com/x'\nsigning_keys = ['short']", "at least 16 characters"),
        ("url = 'https://hooks.example.com/x'\nsigning_keys = []", "give one key or more"),
    ],
)
def test_settings_that_are_not_safe_are_refused(
    make_settings: Callable[..., object], tmp_path: Path, line: str, told: str
) -> None:
    keys = "" if "signing_keys" in line else f"signing_keys = ['{OLD}']\n"
    text = f"[dead_letters.routes.invoice]\nkind = 'webhook'\n{keys}{line}\n"
    (tmp_path / "regrow.toml").write_text(text)
    with pytest.raises(SettingsError, match=told) as caught:
        make_settings(REGROW_CONFIG=str(tmp_path / "regrow.toml"), REGROW_PROFILE="production")
    assert OLD not in str(caught.value)
    assert "pw@" not in str(caught.value)

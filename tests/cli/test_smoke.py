"""`regrow smoke` against a real web process, and against deployments that are not as they should be."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from regrow import smoke
from regrow.engine import Engine
from regrow.health import service
from tests.cli.conftest import Cli
from tests.servers import free_port
from tests.waiting import eventually
from tests.web.conftest import KEY
from tests.web.test_process import WebProcess

FAST = ("--requests", "60", "--rate", "0")


@pytest.fixture
def web(tmp_path: Path, on_engine: Engine) -> Iterator[WebProcess]:
    """A real web process whose checks have just run."""
    web = WebProcess(
        tmp_path,
        on_engine.settings.redis.url.get_secret_value(),
        REGROW_HEALTH__INTERVAL="600",  # so that nothing is too old while the test lasts
        REGROW_DATABASE_URL=on_engine.settings.database.url.get_secret_value(),
    )
    service.run_due(on_engine, force=True)
    eventually(lambda: web.get("/health/ready").status_code == 200, 30, what="ready")
    yield web
    web.close()


@contextmanager
def answering(failing_every: int) -> Iterator[str]:
    """A server that answers 500 to each so-many-th request."""
    asked = iter(range(1, 1_000_000))

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(500 if next(asked) % failing_every == 0 else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_deployment_is_tried_as_its_users_would_and_a_wrong_key_is_found(
    cli: Cli, web: WebProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{web.port}"
    monkeypatch.setenv("API_KEY", KEY)
    tried = cli("smoke", "--url", url, "--json", *FAST)
    told = {test["test"]: (test["ok"], test["told"]) for test in tried.json["tests"]}
    assert list(told) == ["health", "detail", "metrics", "breaker", "uptime"]
    # No worker and no beat run here: the system says so, and everything else is well.
    assert told["detail"][0], told
    assert told["metrics"][0], told
    assert told["breaker"] == (True, "0 breakers, 0 open; the switch answers")
    assert told["uptime"][1].startswith("60 of 60 answered (100 %)")
    assert tried.code == (0 if told["health"][0] else 1)
    assert KEY not in tried.out + tried.err

    monkeypatch.delenv("API_KEY")
    file = tmp_path / "key"
    file.write_text("a-wrong-key-of-some-length\n")
    refused = cli(
        "smoke", "--url", url, "--api-key-file", str(file), "--test", "metrics", "--test", "breaker"
    )
    assert refused.code == 1
    assert refused.out.count("FAILED") == 2
    assert "answered 401 (is the key right?)" in refused.out
    assert "a-wrong-key" not in refused.out + refused.err

    without = cli("smoke", "--url", url, "--test", "detail")
    assert without.code == 1
    assert "needs a key" in without.out


def test_one_answer_in_a_thousand_may_fail_and_one_in_a_hundred_may_not(cli: Cli) -> None:
    with answering(failing_every=1000) as url:
        assert cli("smoke", "--url", url, "--test", "uptime", "--rate", "0").code == 0
    with answering(failing_every=100) as url:
        failed = cli("smoke", "--url", url, "--test", "uptime", "--rate", "0")
    assert failed.code == 1
    assert "990 of 1000 answered (99 %)" in failed.out
    assert "10 x answered 500" in failed.out


def test_where_nobody_listens_it_says_so_in_a_line_each(cli: Cli) -> None:
    dead = cli("smoke", "--url", f"http://127.0.0.1:{free_port()}", *FAST)
    assert dead.code == 1
    assert dead.out.count("FAILED") == 5
    assert "ConnectError" in dead.out
    assert "Traceback" not in dead.out + dead.err


def test_what_is_not_regrow_is_found_out(cli: Cli) -> None:
    with answering(failing_every=10**9) as url:
        other = cli("smoke", "--url", url, "--test", "health")
    assert other.code == 1
    assert "its body is no JSON" in other.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "ftp://host"),
        ("--url", "http://user:secret@host"),
        ("--url", "http://host:port"),
        ("--url", "http://host", "--test", "everything"),
        ("--url", "http://host", "--api-key-file", "/nowhere/at/all"),
        (),
    ],
)
def test_a_command_line_that_is_wrong_is_64(cli: Cli, arguments: tuple[str, ...]) -> None:
    told = cli("smoke", *arguments)
    assert told.code == 64
    assert "secret" not in told.out + told.err


def test_a_key_is_in_no_description_of_the_target() -> None:
    assert "hush" not in repr(smoke.Target("http://host", key="hush"))

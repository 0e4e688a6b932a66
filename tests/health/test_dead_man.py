"""The monitor's own dead man: told after a run, silent without one, its address never shown."""

from __future__ import annotations

import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from regrow.engine import Engine
from regrow.health import dead_man
from regrow.health.rules import Result
from regrow.health.store import LiveResults
from regrow.settings import redacted
from tasks import health as tasks
from tests.servers import free_port
from tests.settings.test_errors import complaint


@pytest.fixture
def listener():
    heard = []

    class Listener(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            heard.append(self.path)
            self.send_response(404 if "gone" in self.path else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    server.server_close()


@pytest.fixture
def telling(make_settings, redis_url, sqlite_url):
    """Tells at a URL, when the disk was last found so, so many seconds ago."""
    made = []

    def tell(url, status="healthy", age=0.0):
        engine = Engine(make_settings(redis_url, sqlite_url, REGROW_HEALTH__DEAD_MAN_URL=url))
        made.append(engine)
        at = engine.clock() - timedelta(seconds=age)
        LiveResults(engine.redis, 10, 600).write([Result("disk", status, "", 0.1, at, 60.0)])
        return dead_man.tell(engine)

    yield tell
    for engine in made:
        engine.close()


def test_somebody_is_told_where_the_settings_say(make_settings, telling, listener):
    url, heard = listener
    assert dead_man.tell(Engine(make_settings())) is False
    assert telling(f"{url}/s3cret") is True
    assert heard == ["/s3cret"]


@pytest.mark.parametrize(
    ("status", "age", "told"), [("unknown", 0, 0), ("healthy", 600, 0), ("unhealthy", 0, 1)]
)
def test_who_knows_nothing_of_any_check_gives_no_sign_of_life(telling, listener, status, age, told):
    url, heard = listener
    assert telling(url, status, age) is bool(told)
    assert len(heard) == told


@pytest.mark.parametrize("path", ["gone-s3cret", None])
def test_a_word_that_nobody_hears_is_logged_without_its_address(telling, listener, capsys, path):
    url = f"{listener[0]}/{path}" if path else f"http://127.0.0.1:{free_port()}/s3cret"
    assert telling(url) is False
    told = capsys.readouterr()
    assert "dead_man.not_told" in told.out + told.err
    assert "s3cret" not in told.out + told.err


def test_the_address_is_shown_nowhere(make_settings, tmp_path):
    settings = make_settings(REGROW_HEALTH__DEAD_MAN_URL="https://hc.example/s3cret")
    assert "s3cret" not in repr(settings)
    assert redacted(settings)["health"]["dead_man_url"] == "***"
    told = complaint(tmp_path, "[health]\ndead_man_url = 's3cret'\n")
    assert "health.dead_man_url = (hidden): the URL must begin with https://" in told
    assert "s3cret" not in told


@pytest.mark.parametrize(("outcome", "told"), [("succeeded", 1), ("partial", 1), ("failed", 0)])
def test_a_run_that_kept_nothing_is_no_sign_of_life(engine, monkeypatch, outcome, told):
    calls = []
    monkeypatch.setattr(tasks, "get_engine", lambda: engine)
    monkeypatch.setattr(tasks.service, "run_of_minute", lambda _: {"ran": 1})
    monkeypatch.setattr(tasks.service, "outcome_of", lambda _: outcome)
    monkeypatch.setattr(tasks.dead_man, "tell", calls.append)
    tasks.health_check_monitoring()
    assert len(calls) == told

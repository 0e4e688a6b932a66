"""From a service that is down to the person who is told, and back: beat, worker and command line as they run."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regrow.alerts import service as alerts
from tests.acceptance.conftest import Deployment
from tests.acceptance.processes import clean_environ
from tests.alerts.receivers import HttpReceiver
from tests.shipped import switched_off
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SHOP = """
[health.checks.shop]
kind = "tcp"
host = "127.0.0.1"
port = {port}
interval = 1.0
failures = 2
successes = 2

[alerts.channels.team]
kind = "webhook"
url_file = "{url}"
signing_keys_file = "{key}"

[alerts.severities.medium]
steps = [{{ after = 0, channels = ["team"] }}]
"""


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    made = HttpReceiver()
    yield made
    made.close()


def test_who_is_told_of_an_outage_acknowledges_it_and_is_told_of_its_end(
    deploy: Callable[..., Deployment],
    redis_url: str,
    mysql_url: str,
    receiver: HttpReceiver,
    tmp_path: Path,
) -> None:
    regrow = deploy(redis_url, mysql_url)
    with socket.socket() as shop:
        shop.bind(("127.0.0.1", 0))  # taken, and nobody listens
        (tmp_path / "url").write_text(receiver.url)
        (tmp_path / "key").write_text("0123456789abcdef0123")
        text = SHOP.format(port=shop.getsockname()[1], url=tmp_path / "url", key=tmp_path / "key")
        (tmp_path / "regrow.toml").write_text(switched_off() + text)
        regrow.environ["REGROW_CONFIG"] = str(tmp_path / "regrow.toml")
        regrow.start_beat()  # it begins while the worker does
        regrow.start_worker()

        eventually(lambda: said(receiver) == ["firing"], 150, what="the team is told, once")
        (first,) = told(receiver)
        assert (first["rule"], first["subject"]) == ("incident", "check:shop")
        command(regrow, "alerts", "acknowledge", first["alert"], "--reason", "on it")

        shop.listen()
        assert "shop" in command(regrow, "alerts", "why", "check:shop")
        eventually(lambda: said(receiver) == ["firing", "resolved"], 150, what="and of the end, once")
    assert len({body["alert"] for body in told(receiver)}) == 1
    eventually(lambda: alerts.waiting(regrow.engine) == {}, what="nothing waits")


def told(receiver: HttpReceiver) -> list[dict[str, Any]]:
    """Of the incident. Other rules have something to say of it too, each in its own time."""
    bodies = [json.loads(body) for _path, _headers, body in receiver.got]
    return [body for body in bodies if body["rule"] == "incident"]


def said(receiver: HttpReceiver) -> list[str]:
    return [body["kind"] for body in told(receiver)]


def command(regrow: Deployment, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "regrow.cli.main", *words],
        env=clean_environ(**regrow.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

"""Recovery on the command line, over HTTP, on the page, in the metrics."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from regrow.engine import Engine, set_engine
from regrow.errors import StoreUnavailableError
from regrow.recovery import service
from regrow.web.app import create_app
from tests.cli.conftest import Cli, cli  # noqa: F401 - a fixture
from tests.recovery.conftest import trip

KEY = "a-key-for-recovery-of-32-letters"
AUTH = {"X-API-Key": KEY}
TRIGGER = "/reliability/auto-recovery/bank/trigger"
TOML = """
[health.checks.bank]
kind = "http"
url = "http://127.0.0.1:1/"

[recovery.services.bank]
kind = "command"
argv = ["false"]
settle = 0
"""


@pytest.fixture
def engine(recovering) -> Iterator[Engine]:
    """``bank`` is down, and its first attempt failed."""
    engine = recovering(TOML, API_KEY=KEY)
    trip(engine, "bank")
    service.start_recoveries(engine)
    service.attempt(engine, engine.sender.taken()[0])
    set_engine(engine)
    yield engine
    set_engine(None)


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(engine), "http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
        yield client


def test_status_and_history_on_the_command_line(cli: Cli, engine: Engine) -> None:  # noqa: F811
    listed = cli("recovery", "status")
    assert listed.code == 0
    assert listed.out.splitlines()[1].split()[:5] == ["bank", "waiting", "1", "of", "3"]
    (one,) = cli("recovery", "status", "--json").json["services"]
    assert (one["state"], one["attempts"], one["last"]["outcome"]) == ("waiting", 1, "failed")
    shown = cli("recovery", "status", "bank").out
    assert "command: run false" in shown
    assert cli("recovery", "status", "bnak").code == 1
    (row,) = cli("recovery", "history", "bank", "--json").json["recoveries"]
    assert (row["attempt"], row["outcome"], row["message"]) == (1, "failed", "exit code 1")
    assert "exit code 1" in cli("recovery", "history").out


def test_trigger_and_unlock_on_the_command_line(
    cli: Cli,  # noqa: F811
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    asked = cli("recovery", "trigger", "bank", "--reason", "new cable")
    assert (asked.code, "nobody to ask" in asked.err) == (1, True)
    done = cli("recovery", "trigger", "bank", "--reason", "new cable", "--yes")
    assert (done.code, engine.sender.taken()) == (0, ["bank"])
    service.attempt(engine, "bank")
    row = service.history(engine, limit=1)[0]
    assert (row.attempt, row.trigger, row.reason) == (0, "hand", "new cable")
    assert "is unlocked" in cli("recovery", "unlock", "bank", "--reason", "mended", "-y").out
    assert cli("recovery", "unlock", "bank", "--reason", "mended", "-y", "--json").json["unlocked"] is False
    assert cli("recovery", "unlock", "bnak", "--reason", "mended", "-y").code == 1
    assert cli("recovery", "unlock", "bank", "--reason", " ", "-y").code == 1


def test_a_trigger_over_http_needs_the_key_and_is_written_down(client: TestClient, engine: Engine) -> None:
    assert client.post(TRIGGER).status_code == 401
    assert client.post(TRIGGER, headers={"X-API-Key": "wrong"}).status_code == 401
    assert engine.sender.taken() == []
    answer = client.post(TRIGGER, headers=AUTH, json={"reason": "new cable"})
    assert (answer.status_code, answer.json()) == (202, {"service": "bank", "sent": True})
    assert engine.sender.taken() == ["bank"]
    service.attempt(engine, "bank")
    row = service.history(engine, limit=1)[0]
    assert (row.actor, row.reason, row.trigger) == ("api@127.0.0.1", "new cable", "hand")


def test_what_cannot_be_triggered_says_why(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = client.post("/reliability/auto-recovery/bnak/trigger", headers=AUTH)
    assert (missing.status_code, "there are: bank" in missing.json()["detail"]) == (404, True)

    def away(*_args: object, **_options: object) -> bool:
        raise StoreUnavailableError("the database did not answer")

    monkeypatch.setattr(service, "trigger", away)
    assert client.post(TRIGGER, headers=AUTH).status_code == 503


def test_reliability_and_health_tell_attempts(client: TestClient) -> None:
    for path in ("/reliability", "/health/detailed"):
        bank = client.get(path, headers=AUTH).json()["auto_recovery"]["bank"]
        assert (bank["state"], bank["attempts"], bank["max_attempts"]) == ("waiting", 1, 3), path
        assert bank["last"]["outcome"] == "failed"


def test_metrics_and_page_show_it(client: TestClient, engine: Engine, clock) -> None:
    text = client.get("/metrics", headers=AUTH).text
    assert 'regrow_recovery_state{service="bank",state="waiting"} 1.0' in text
    assert 'regrow_recovery_state{service="bank",state="well"} 0.0' in text
    assert 'regrow_recovery_attempts{service="bank"} 1.0' in text
    assert 'regrow_recoveries_total{outcome="failed",service="bank"} 1.0' in text
    for _ in range(2):
        clock.on(200)
        service.start_recoveries(engine)
        service.attempt(engine, engine.sender.taken()[0])
    page = client.get("/", headers=AUTH).text
    assert "bank could not be recovered" in page
    assert "run false" in page

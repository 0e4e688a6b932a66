"""Would letters arrive, and what a redrive cannot bring back: said before it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.dead_letters import service
from regrow.dead_letters.captured import of_message
from regrow.dead_letters.replaying import hazards_of
from regrow.engine import Engine
from tests.dead_letters.conftest import Post, call

HEADERS = {"task": "shop.charge", "id": "abc"}
WRITTEN = """
[brokers.shop]
url = "amqp://127.0.0.1:1//"
[dead_letters.queues.shop]
queue = "shop.dead"
broker = "shop"
[dead_letters.routes.invoice]
task = "billing.send"
queue = "billing"
[dead_letters.routes.event]
kind = "amqp"
[dead_letters.routes.paid]
kind = "amqp"
exchange = "orders"
routing_key = "paid"
[dead_letters.routes.hook]
kind = "webhook"
url = "https://example.com/x?token=secret"
signing_keys = ["0123456789abcdef"]
[dead_letters.routes.report]
kind = "handler"
handler = "no_such_app:report"
[dead_letters.routes.dump]
kind = "handler"
handler = "json:dumps"
validate_with = "json:loads"
"""


@pytest.fixture
def engine(make_settings: Callable[..., object], tmp_path: Path, post: Post):
    (tmp_path / "regrow.toml").write_text(WRITTEN)
    engine = Engine(make_settings(REGROW_CONFIG=str(tmp_path / "regrow.toml")), sender=post)
    engine._senders["shop"] = Post(no_queue=True)
    engine.database.upgrade()
    yield engine
    engine.close()


def test_every_route_and_queue_is_looked_at_and_none_hides_another(engine: Engine) -> None:
    found = {finding.subject: (finding.ok, finding.told) for finding in service.check_routes(engine)}
    assert found["routes.invoice"] == (True, "queue 'billing' is there")
    assert found["routes.paid"] == (True, "exchange 'orders' is there")
    assert found["routes.event"][0] is None
    assert found["routes.hook"] == (None, "https://example.com/x is only called with a letter")
    assert found["routes.dump"] == (True, "json:dumps can be called")
    assert found["routes.report"][0] is False
    assert "ModuleNotFoundError" in found["routes.report"][1]
    assert found["queues.shop"][0] is False
    assert found["queues.shop"][1].startswith("the broker has no queue 'shop.dead' of broker shop")


def test_a_broker_that_is_away_is_said_of_its_routes_alone(engine: Engine, post: Post) -> None:
    post.away = True
    found = {finding.subject: finding for finding in service.check_routes(engine)}
    assert (found["routes.invoice"].ok, found["routes.invoice"].told) == (False, "the broker is away")
    assert found["routes.dump"].ok


def test_letters_are_looked_at_one_by_one(engine: Engine, post: Post) -> None:
    good = service.capture(engine, call())
    nowhere = service.capture(engine, of_message({"to": "x"}, message_type="sms"))
    refused = service.capture(engine, of_message({"to": "x"}, message_type="dump"))
    found = service.check_letters(engine, [good, nowhere, refused, "no-such-id"])
    assert [finding.ok for finding in found] == [True, False, False, False]
    assert found[0].told == "would go to task shop.charge on queue shop"
    assert "[dead_letters.routes.sms]" in found[1].told
    assert "handler json:dumps would not take it: json:loads: TypeError" in found[2].told
    assert "no-such-id" in found[3].told
    assert (post.home, post.posted, post.sent) == ([], [], [])


def _body(**embed: object) -> bytes:
    return json.dumps([[1], {}, embed]).encode()


@pytest.mark.parametrize(
    ("headers", "body", "content_type", "error_class", "words"),
    [
        (HEADERS, _body(chord=None), "application/json", "ValueError", []),
        ({}, b"{}", "application/json", "ValueError", []),
        (HEADERS, _body(chord={"task": "sum"}), "application/json", "ValueError", ["part of a chord"]),
        ({**HEADERS, "group": "g"}, _body(), "application/json", "ValueError", ["part of a group"]),
        (HEADERS, _body(), "application/json", "celery.exceptions.TaskRevokedError", ["abc was revoked"]),
        (HEADERS, b"\x80", "application/x-python-serialize", "ValueError", ["cannot be read here"]),
        (HEADERS, b"{", "application/json", "ValueError", ["cannot be read here"]),
        (HEADERS, b"[1, 2, 3]", "application/json", "ValueError", ["cannot be read here"]),
    ],
)
def test_what_cannot_be_replayed_is_said(headers, body, content_type, error_class, words) -> None:
    told = list(hazards_of(headers, body, content_type, error_class))
    assert len(told) == len(words)
    assert all(word in sentence for word, sentence in zip(words, told, strict=True))

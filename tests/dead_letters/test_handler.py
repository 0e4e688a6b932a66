"""Letters that go home to a Python function, called here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from regrow.dead_letters import Message, redriving, routes, service
from regrow.dead_letters.captured import Capture, of_message
from regrow.dead_letters.route import Outbound
from regrow.engine import Engine
from regrow.errors import DeliveryRefusedError, RouteError
from tests.dead_letters.conftest import Clock, free

APP = """
import regrow

seen = []
answer = None

class CardExpired(Exception):
    pass

def charge(message):
    seen.append(message)
    if answer is not None:
        raise answer

def would_take(message):
    if "order" not in message.body:
        raise KeyError("order")

nothing = 3
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch):
    """A module of an app's, importable."""
    (tmp_path / "shop_redrive.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("shop_redrive")
    del sys.modules["shop_redrive"]


@pytest.fixture
def declare(make_settings: Callable[..., object], tmp_path: Path, clock: Clock):
    """An engine with this route for the message type ``charge``."""
    made: list[Engine] = []

    def declare(handler: str = "shop_redrive:charge", **more: str) -> Engine:
        written = {"kind": "handler", "handler": handler, **more}
        text = "\n".join(f"{key} = {value!r}" for key, value in written.items())
        (tmp_path / "regrow.toml").write_text(f"[dead_letters.routes.charge]\n{text}\n")
        settings = make_settings(REGROW_CONFIG=str(tmp_path / "regrow.toml"))
        engine = Engine(settings, clock=clock)
        engine.database.upgrade()
        made.append(engine)
        return engine

    yield declare
    for engine in made:
        engine.close()


def _capture(engine: Engine, body: bytes, content_type: str, encoding: str = "utf-8") -> str:
    made = of_message({}, message_type="charge", service="bank", idempotency_key="order-1", error="x")
    return service.capture(
        engine,
        Capture(
            **{
                **{name: getattr(made, name) for name in Capture.__dataclass_fields__},
                "body": body,
                "content_type": content_type,
                "content_encoding": encoding,
                "headers": {"x-tenant": "a"},
            }
        ),
    )


def _redrive(engine: Engine, clock: Clock) -> dict[str, int]:
    clock.advance(3600)
    return redriving.process_batch(engine, held=free)


def test_it_is_called_with_the_message_and_its_return_settles(app, declare, clock: Clock) -> None:
    engine = declare()
    event = _capture(engine, b'{"order": 1}', "application/json")
    assert _redrive(engine, clock)["resolved"] == 1
    (message,) = app.seen
    letter = service.show(engine, event).letter
    assert isinstance(message, Message)
    assert (message.body, message.raw, message.headers["x-tenant"]) == ({"order": 1}, b'{"order": 1}', "a")
    assert (message.letter_id, message.effect_key, message.attempt) == (letter.id, "order-1", 1)
    assert (letter.state, letter.attempts) == ("resolved", 1)
    with pytest.raises(FrozenInstanceError):
        message.body = None
    with pytest.raises(TypeError):
        message.headers["x"] = 1


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "decoded"),
    [
        (b"[1]", "application/vnd.shop+json; charset=utf-8", "utf-8", [1]),
        ("für".encode("latin-1"), "text/plain", "latin-1", "für"),
        (b"\x80\x04N.", "application/x-python-serialize", "binary", b"\x80\x04N."),
    ],
)
def test_the_body_is_decoded_by_its_content_type_and_never_unpickled(
    app, declare, clock: Clock, body: bytes, content_type: str, encoding: str, decoded: object
) -> None:
    engine = declare()
    _capture(engine, body, content_type, encoding)
    assert _redrive(engine, clock)["resolved"] == 1
    assert app.seen[0].body == decoded


def test_a_body_that_is_not_what_it_claims_waits_for_a_person(app, declare, clock: Clock) -> None:
    engine = declare()
    event = _capture(engine, b"{", "application/json")
    assert _redrive(engine, clock)["quarantined"] == 1
    assert "not the application/json" in service.show(engine, event).letter.reason
    assert app.seen == []


def test_whatever_it_raises_is_a_failure_with_its_name(app, declare, clock: Clock) -> None:
    engine = declare()
    event = _capture(engine, b"{}", "application/json")
    app.answer = app.CardExpired("no")
    assert _redrive(engine, clock)["failed"] == 1
    found = service.show(engine, event)
    assert (found.letter.state, found.attempts[0].error) == ("pending", "shop_redrive.CardExpired: no")


def test_it_can_refuse_for_good(app, declare, clock: Clock) -> None:
    engine = declare()
    event = _capture(engine, b"{}", "application/json")
    app.answer = DeliveryRefusedError("the order is cancelled")
    assert _redrive(engine, clock)["quarantined"] == 1
    assert service.show(engine, event).letter.reason == "the order is cancelled"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("shop_nowhere:charge", "ModuleNotFoundError"),
        ("shop_redrive:chrage", "AttributeError"),
        ("shop_redrive:nothing", "is a int, not a function"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_named_with_its_key(app, declare, name: str, why: str) -> None:
    (line,) = routes.unloadable(declare(name).settings)
    assert line.startswith(f"dead_letters.routes.charge.handler: {name} ")
    assert why in line
    assert [*routes.unloadable(declare().settings)] == []


def test_validation_runs_the_function_without_effects_and_not_the_handler(app, declare, clock: Clock) -> None:
    engine = declare(validate_with="shop_redrive:would_take")
    good, bad = (
        _capture(engine, b'{"order": 1}', "application/json"),
        service.capture(engine, of_message({"x": 1}, message_type="charge")),
    )
    for event, error in ((good, None), (bad, DeliveryRefusedError)):
        found = service.show(engine, event)
        outbound = Outbound(found.letter, found.body, "t")
        route = routes.find(engine, found.letter)
        if error is None:
            route.validate(outbound)
        else:
            with pytest.raises(error, match="would_take: KeyError"):
                route.validate(outbound)
    assert app.seen == []


def test_a_name_in_a_letter_is_never_imported(app, declare, clock: Clock) -> None:
    engine = declare("shop_nowhere:charge")
    service.capture(engine, of_message({"handler": "shop_redrive:charge"}, message_type="charge"))
    assert _redrive(engine, clock)["quarantined"] == 1
    assert app.seen == []
    with pytest.raises(RouteError, match="shop_nowhere"):
        routes.handler.load("shop_nowhere:charge")

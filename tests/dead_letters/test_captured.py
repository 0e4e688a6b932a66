"""What an app hands over is kept whole, or refused by name."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.dead_letters.captured import Capture, describe, from_wire, of_message, to_wire
from regrow.errors import LetterRefusedError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_any_json_value_comes_back_as_it_was(message: object) -> None:
    assert json.loads(of_message(message, message_type="t").body) == message


@given(JSON, st.text(), st.binary())
def test_a_capture_survives_the_wire_byte_for_byte(message: object, text: str, raw: bytes) -> None:
    captured = of_message(message, error=text, message_type="t", idempotency_key="k" + text)
    wire = json.loads(json.dumps(to_wire(captured)))
    assert from_wire(wire) == captured
    binary = Capture("e", raw, "t", "s", "k", "E", text, datetime(2026, 1, 1, tzinfo=UTC))
    assert from_wire(json.loads(json.dumps(to_wire(binary)))) == binary


def test_a_call_names_its_home_and_its_task_id_is_its_key() -> None:
    captured = of_message({"task": "shop.charge", "args": [1], "queue": "shop", "id": "abc"})
    assert (captured.task, captured.queue, captured.task_id) == ("shop.charge", "shop", "abc")
    assert captured.idempotency_key == "task:abc"
    assert captured.message_type == captured.service == "shop.charge"


def test_without_a_key_every_capture_is_a_message_of_its_own() -> None:
    assert of_message({"a": 1}).idempotency_key != of_message({"a": 1}).idempotency_key


def test_an_exception_is_kept_as_strings_with_its_traceback() -> None:
    def charge() -> None:
        raise TimeoutError("bank asleep")

    try:
        charge()
    except TimeoutError as error:
        captured = of_message({}, error=error)
    assert (captured.error_class, captured.error_message) == ("TimeoutError", "bank asleep")
    assert "in charge" in str(captured.traceback)


def test_an_exception_that_cannot_be_printed_is_kept_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert describe(Mute())[1] == "<unprintable Mute: RuntimeError>"


def test_the_fingerprint_joins_a_site_across_lines_and_messages_and_parts_other_sites() -> None:
    def trace(line: int, function: str) -> str:
        return (
            f'Traceback\n  File "/srv/app/shop.py", line {line}, in {function}\n    x()\nValueError: {line}'
        )

    def of(line: int, function: str, message: str = "m") -> str:
        error = {"class": "ValueError", "message": message, "traceback": trace(line, function)}
        return of_message({}, error=error, message_type="t").fingerprint

    assert of(10, "charge", "card 1") == of(99, "charge", "card 2")
    assert of(10, "charge") != of(10, "refund")


@pytest.mark.parametrize(
    ("message", "options", "words"),
    [
        ({"x": object()}, {}, "not JSON"),
        ({"x": math.nan}, {}, "not JSON"),
        ({"task": "t", "args": "abc"}, {}, "message.args must be a list"),
        ({"task": "t", "kwargs": [1]}, {}, "message.kwargs must be a mapping"),
        ({}, {"message_type": "m" * 191}, "message_type has 191 characters"),
        ({}, {"confirm": "maybe"}, "confirm = 'maybe'"),
        ({}, {"max_retries": -1}, "max_retries = -1"),
        ({}, {"failed_at": "yesterday"}, "not an ISO 8601 time"),
        ({}, {"failed_at": "2026-01-01T00:00:00"}, "no time zone"),
        ({}, {"error": {"klass": "x"}}, "unknown keys klass"),
        ({}, {"idempotency_key": ""}, None),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_remedy(message, options, words: str | None) -> None:
    if words is None:  # an empty key is no key
        assert of_message(message, **options).idempotency_key.startswith("event:")
        return
    with pytest.raises(LetterRefusedError, match=words):
        of_message(message, **options)


def test_a_long_key_is_hashed_and_stays_the_same_key() -> None:
    first, second = (of_message({}, idempotency_key="k" * 500) for _ in range(2))
    assert first.idempotency_key == second.idempotency_key
    assert len(first.idempotency_key) <= 190


def test_times_are_kept_in_utc() -> None:
    at = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert of_message({}, failed_at=at).failed_at == datetime(2026, 1, 1, 0, tzinfo=UTC)


def test_a_time_beyond_time_is_refused() -> None:
    with pytest.raises(LetterRefusedError, match="useful_until"):
        of_message({}, useful_until="9999-12-31T23:59:59-12:00")

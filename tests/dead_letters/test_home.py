"""The way home: the right task, the right queue, its own callbacks kept and ours beside them."""

from __future__ import annotations

import json

import pytest

from regrow.dead_letters.home import HEADER, Home, compose, parse_reference
from regrow.errors import RouteError

HOME = Home("shop", "shop.charge")


def _compose(body: bytes, headers: dict[str, object] | None = None, content_type: str = "application/json"):
    return compose(
        HOME,
        reference="L:T",
        letter_id="L",
        task_id=None,
        body=body,
        content_type=content_type,
        content_encoding="utf-8",
        headers=headers or {},
    )


def test_a_call_goes_home_with_its_arguments_and_both_callbacks() -> None:
    message = _compose(json.dumps({"task": "shop.charge", "args": [1], "kwargs": {"c": 2}}).encode())
    assert (message.args, message.kwargs, message.task_id) == ([1], {"c": 2}, "L")
    assert [c["task"] for c in message.callbacks] == ["regrow.dead_letters.settle"]
    assert [c["task"] for c in message.errbacks] == ["regrow.dead_letters.record_failure"]
    assert message.headers[HEADER] == "L:T"


def test_any_other_message_is_the_one_argument_of_its_task() -> None:
    assert _compose(b'{"to": "x"}').args == [{"to": "x"}]
    assert _compose(b"[1, 2]").args == [[1, 2]]


def test_a_message_with_a_task_of_its_own_meaning_is_still_an_argument() -> None:
    assert _compose(b'{"task": "clean the kitchen"}').args == [{"task": "clean the kitchen"}]


def test_a_captured_celery_message_is_replayed_with_its_own_callbacks_kept() -> None:
    own = {"task": "shop.mail", "args": [], "kwargs": {}, "options": {}}
    body = [[1], {}, {"callbacks": [own], "errbacks": None, "chain": [own], "chord": None}]
    headers = {
        "task": "shop.charge",
        "id": "abc",
        "retries": 3,
        "expires": "2026-01-01T00:00:00+00:00",
        "x": "y",
    }
    message = _compose(json.dumps(body).encode(), headers)
    assert message.raw is not None
    args, kwargs, embed = json.loads(message.raw.body)
    assert (args, kwargs) == ([1], {})
    assert [c["task"] for c in embed["callbacks"]] == ["shop.mail", "regrow.dead_letters.settle"]
    assert [c["task"] for c in embed["errbacks"]] == ["regrow.dead_letters.record_failure"]
    assert embed["chain"] == [own]
    assert (message.headers["id"], message.headers["retries"], message.headers["expires"]) == ("abc", 0, None)
    assert (message.headers["x"], message.headers[HEADER]) == ("y", "L:T")


def test_a_body_that_is_not_json_is_replayed_byte_for_byte() -> None:
    message = _compose(b"\x80\x04raw", {"task": "t", "id": "abc"}, "application/x-python-serialize")
    assert message.raw is not None
    assert message.raw.body == b"\x80\x04raw"


def test_a_body_that_is_no_argument_waits_for_a_person() -> None:
    with pytest.raises(RouteError, match="not JSON"):
        _compose(b"\xff")


@pytest.mark.parametrize("reference", ["", "abc", "abc:", ":t"])
def test_a_reference_that_names_no_attempt_is_refused(reference: str) -> None:
    with pytest.raises(RouteError):
        parse_reference(reference)

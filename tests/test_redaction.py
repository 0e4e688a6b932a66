"""What people are shown: secrets hidden by name and by form; what cannot be read surely is not shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.redaction import HIDDEN, WORDS, Redactor

REDACT = Redactor()
SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "message",
    [
        {"password": SECRET},
        {"user": {"apiKey": SECRET}},
        {"API-Key": [SECRET, {"deep": SECRET}]},
        [[], {"db_password": SECRET}, {"callbacks": None}],
        {"headers": [["Authorization", f"Bearer {SECRET}"]]},
        {"env": [{"name": "DB_PASSWORD", "value": SECRET}]},
        {"payload": json.dumps({"token": SECRET})},
        {"url": f"https://ann:{SECRET}@shop.example/"},
        {"note": f"curl -H 'Authorization: Basic {SECRET}'"},
        {"kwargsrepr": f"{{'password': '{SECRET}', 'n': 1}}"},
        {"pem": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"},
        {"query": f"?page=1&access_token={SECRET}&x=2"},
    ],
)
def test_a_secret_in_a_body_is_hidden_by_its_name_or_form(message: Any) -> None:
    shown = REDACT.body(json.dumps(message).encode(), "application/json")
    assert SECRET not in shown
    assert HIDDEN in shown
    assert isinstance(json.loads(shown), dict | list), "still the message's shape"


@pytest.mark.parametrize(
    "text",
    [
        f"login failed: password={SECRET}",
        f'KeyError: {{"password": "{SECRET} and more"}}',
        f'bad body: "{{\\"client_secret\\": \\"{SECRET}\\"}}"',
        f"Settings(api_key='{SECRET}')",
        f"cut off: {{'password': '{SECRET}",
        f"Cookie: a=1; session={SECRET}",
        f"redis://:{SECRET}@cache.example:6379/0 refused",
        f"Authorization: Token {SECRET}",
        f"secret => {SECRET}",
        f"env['DB_PASSWORD'] = {SECRET}",
    ],
)
def test_a_secret_in_an_error_is_hidden(text: str) -> None:
    assert SECRET not in REDACT.text(text)


def test_card_numbers_and_addresses_are_hidden_and_other_numbers_are_not() -> None:
    text = "card 4111 1111 1111 1111 or 4111111111111111 of ann@shop.example, order 4111111111111112"
    shown = REDACT.text(text)
    assert "1111 1111" not in shown
    assert "4111111111111111" not in shown
    assert "ann@" not in shown
    assert "4111111111111112" in shown
    assert Redactor(emails=False).text("ann@shop.example") == "ann@shop.example"
    assert json.loads(REDACT.body(b'{"n": 4111111111111111, "m": 12}', "application/json")) == {
        "n": HIDDEN,
        "m": 12,
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"password": "hunter2', "application/json"),
        (b"\x80\x04\x95hunter2", "application/x-python-serialize"),
        (b"hunter2", "application/octet-stream"),
        (b"\xffhunter2", "text/plain"),
        (b"[" * 100_000 + b'"hunter2"' + b"]" * 100_000, "application/json"),
        (b"hunter2", ""),
    ],
)
def test_what_cannot_be_redacted_is_withheld(body: bytes, content_type: str) -> None:
    shown = REDACT.body(body, content_type)
    assert "hunter2" not in shown
    assert "withheld" in shown


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    message = {"order": 7, "to": "Ann", "lines": [{"sku": "A-1", "ok": True, "price": 1.5}], "shipping": None}
    assert json.loads(REDACT.body(json.dumps(message).encode(), "application/json")) == message
    trace = 'Traceback (most recent call last):\n  File "a.py", line 3, in charge\nValueError: no funds'
    assert REDACT.text(trace) == trace


def test_words_are_configurable() -> None:
    own = Redactor(["patient id"])
    assert own.value({"PatientId": "x", "password": "y"}) == {"PatientId": HIDDEN, "password": "y"}
    assert own.text("patient_id=x") == f"patient_id={HIDDEN}"
    assert Redactor([]).text("password=x") == "password=x"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9999) | st.text("ab", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(WORDS), st.sampled_from(["{}", "my_{}", "{}Id", "X-{}"]), st.booleans())
def test_wherever_a_telling_name_stands_its_value_is_not_shown(
    around: Any, word: str, form: str, nested: bool
) -> None:
    message: Any = {form.format(word): SECRET, "around": around}
    message = {"list": [around, message]} if nested else message
    assert SECRET not in REDACT.body(json.dumps(message).encode(), "application/json")
    assert SECRET not in REDACT.text(f"failed with {message!r}")


def test_long_texts_take_no_time() -> None:
    for text in (
        "a" * 300_000,
        "password" * 30_000,
        "4 " * 100_000,
        "a@" * 100_000,
        "'\\" * 100_000,
        "://" * 50_000,
    ):
        REDACT.text(text)

"""What an HTTP answer's body must say: text, a regular expression, conditions on its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from regrow.health.checks.conditions import Remark
from regrow.settings.checks import HttpCheck
from regrow.settings.checks.network import JsonCondition

_SEARCH = 1.0
"""Seconds that a regular expression may search a body: some never come to an end."""


def remarks_on(check: HttpCheck, text: str | None) -> Iterable[Remark]:
    """A remark for each condition that does not hold. ``text`` None: the body was too long to be read."""
    if not check.reads_body:
        return
    if text is None:
        yield Remark("unhealthy", "the body is too long to search")
        return
    if check.expect_body is not None and check.expect_body not in text:
        yield Remark("unhealthy", "the expected text is missing")
    if check.expect_pattern is not None:
        yield from _pattern(check.expect_pattern, text)
    if check.expect_json:
        yield from _json(check.expect_json, text)


def _pattern(pattern: str, text: str) -> Iterable[Remark]:
    try:
        if not _found(pattern, text):
            yield Remark("unhealthy", f"{pattern} is not found in the body")
    except TimeoutError:
        yield Remark("unknown", f"{pattern} found no end of searching the body within {_SEARCH:g} s")


def _json(wanted: Iterable[JsonCondition], text: str) -> Iterable[Remark]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        yield Remark("unhealthy", "the body is no JSON")
        return
    for condition in wanted:
        yield from _at(condition, told)


def _at(condition: JsonCondition, told: Any) -> Iterable[Remark]:
    import jsonpath

    found = jsonpath.findall(condition.path, told) if isinstance(told, dict | list) else []
    if not found:
        yield Remark("unhealthy", f"the body has no {condition.path}")
    for value in found:
        try:
            if said := next(_broken(condition, value), None):
                yield Remark("unhealthy", f"{condition.path} is {_shown(value)}, not {said}")
                return
        except TimeoutError:
            yield Remark("unknown", f"{condition.matches} found no end of searching {condition.path}")
            return


def _broken(condition: JsonCondition, value: Any) -> Iterator[str]:
    """In words, what the value should be and is not."""
    for name, wanted in condition.conditions().items():
        match name:
            case "equals" if not _equal(value, wanted):
                yield _shown(wanted)
            case "at_least" if not (_is_number(value) and value >= wanted):
                yield f"{wanted:g} or more"
            case "at_most" if not (_is_number(value) and value <= wanted):
                yield f"{wanted:g} or less"
            case "matches" if not (isinstance(value, str) and _found(wanted, value)):
                yield f"like {wanted}"


def _equal(value: Any, wanted: Any) -> bool:
    """JSON's equality: true is not 1, but 1 is 1.0."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _found(pattern: str, text: str) -> bool:
    import regex

    return regex.search(pattern, text, timeout=_SEARCH, concurrent=True) is not None


def _shown(value: Any) -> str:
    """A value of somebody else's answer: short, and no more than its kind when it is a structure."""
    if isinstance(value, dict | list):
        return "a structure"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"

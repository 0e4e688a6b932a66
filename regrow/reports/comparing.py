"""What one report says otherwise than another: their JSON, value by value. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAMES = ("name", "service", "job", "id", "subject")
"""What members of a list are told apart by."""
ASIDE = frozenset({"now"})
"""How things stood when a report was made is no part of what it says of its period."""


@dataclass(frozen=True)
class Change:
    """``where``: ``checks / redis / uptime``. ``before`` and ``after``: JSON values, None: not there."""

    where: str
    before: Any
    after: Any


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Every value that differs, in the order of the reports' keys."""
    known = [{key: value for key, value in one.items() if key not in ASIDE} for one in (before, after)]
    return tuple(_compared((), *known))


def _compared(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    old, new = _members(before), _members(after)
    if old is None or new is None:
        yield Change(" / ".join(path), before, after)
        return
    for key in dict.fromkeys((*old, *new)):
        yield from _compared((*path, key), old.get(key), new.get(key))


def _members(value: Any) -> Mapping[str, Any] | None:
    """An object's members, or a list's by their names; None for a value that is compared as a whole."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        names = [_name(one) for one in value]
        if None not in names and len(set(names)) == len(names):
            return {str(name): one for name, one in zip(names, value, strict=True)}
    return None


def _name(one: Any) -> str | None:
    if not isinstance(one, Mapping):
        return None
    return next((str(one[key]) for key in NAMES if key in one), None)

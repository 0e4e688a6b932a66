"""Which errors a rule is about: exception classes, or functions that look at the error."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Matcher = type[BaseException] | Callable[[BaseException], bool]
Matchers = Matcher | Iterable[Matcher]


def matchers(given: Matchers) -> tuple[Matcher, ...]:
    """One matcher or several, as a tuple."""
    if isinstance(given, type) or callable(given):
        return (given,)
    return tuple(given)


def matches(error: BaseException, among: tuple[Matcher, ...]) -> bool:
    """Whether any of ``among`` is about ``error``."""
    return any(
        isinstance(error, matcher) if isinstance(matcher, type) else bool(matcher(error)) for matcher in among
    )

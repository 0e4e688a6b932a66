"""Waiting for a condition, never for luck: poll until it holds or the deadline passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout: float = 20.0, every: float = 0.05, what: str = "") -> T:
    """The first truthy value of ``condition``; AssertionError with the last value after ``timeout`` seconds.

    Exceptions of the condition count as "not yet" and are shown when time runs out.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}; last seen: {last!r}")
        time.sleep(every)

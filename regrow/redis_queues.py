"""How kombu keeps a queue on Redis: a list a priority step, what is taken next at its right."""

from __future__ import annotations

from collections.abc import Sequence

STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"


def lists_of(queue: str, *, steps: Sequence[int] = STEPS, separator: str = SEPARATOR) -> list[str]:
    """The names of its lists, in the order in which they are taken from, without the app's key prefix.

    ``steps``, ``separator``: what an app's transport options may have made of kombu's own.
    """
    return [f"{queue}{separator}{step}" if step else queue for step in steps]

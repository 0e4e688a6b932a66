"""The order of the files: those that wait for real programs lie between those that compute.

Side by side they would leave the processor idle, or want it all at once; one at the end would be waited for alone.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest

_WAITING = {"acceptance", "drain", "proof", "recovery", "worker"}
"""Rooms of tests most of whose time passes without this process's doing."""
_BY_THEN = 0.8
"""Of the others, the share by which the last of those has been given out."""


def in_turn(items: list[pytest.Item]) -> list[pytest.Item]:
    """All items, those of a file together and in their order."""
    files = [list(found) for _, found in groupby(items, key=lambda item: item.path)]
    spread = {True: _BY_THEN, False: 1.0}
    placed: list[tuple[float, list[pytest.Item]]] = []
    for waiting, until in spread.items():
        chosen = [file for file in files if _waits(file[0].path) is waiting]
        placed += [(until * at / len(chosen), file) for at, file in enumerate(chosen)]
    return [item for _, file in sorted(placed, key=itemgetter(0)) for item in file]


def _waits(path: Path) -> bool:
    return not _WAITING.isdisjoint(path.relative_to(Path(__file__).parent).parts)

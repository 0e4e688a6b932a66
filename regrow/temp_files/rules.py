"""Which temp files go: facts of a file, a policy and the time in; keep or remove, with the reason, out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Reason = Literal[
    "old",
    "over quota",
    "kept by pattern",
    "no pattern matches",
    "link or special file",
    "open",
    "may be open",
    "young",
]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One directory entry. ``path`` is relative to its root, with ``/``; ``modified`` in epoch seconds.

    ``is_open``: some process has it open; None when that cannot be known here.
    """

    path: str
    size: int
    modified: float
    regular: bool
    is_open: bool | None


@dataclass(frozen=True)
class Policy:
    """``max_age`` in seconds, ``max_bytes`` for all files of the root together (None: no limit).

    A pattern with a ``/`` is matched against the path below the root, one without against the name.
    ``settle``: seconds for which a file is left alone when nobody can say whether it is open.
    """

    max_age: float
    max_bytes: int | None = None
    patterns: tuple[str, ...] = ("*",)
    keep: tuple[str, ...] = ()
    settle: float = 300.0


@dataclass(frozen=True, slots=True)
class Verdict:
    remove: bool
    reason: Reason


def decide(file: FileFacts, policy: Policy, now: float) -> Verdict:
    """Whether a file goes for its age. What is kept only as ``young`` may still go for the quota."""
    if held := _held_back(file, policy, now):
        return Verdict(remove=False, reason=held)
    if now - file.modified > policy.max_age:
        return Verdict(remove=True, reason="old")
    return Verdict(remove=False, reason="young")


def _held_back(file: FileFacts, policy: Policy, now: float) -> Reason | None:
    """Why a file may not be touched at all."""
    if not file.regular:
        return "link or special file"
    if any(_matches(file.path, pattern) for pattern in policy.keep):
        return "kept by pattern"
    if not any(_matches(file.path, pattern) for pattern in policy.patterns):
        return "no pattern matches"
    if file.is_open:
        return "open"
    if file.is_open is None and now - file.modified < policy.settle:
        return "may be open"
    return None


def over_quota(young: Iterable[FileFacts], left_bytes: int, policy: Policy) -> list[FileFacts]:
    """The oldest of the ``young`` files that must go until ``left_bytes``, all that is left, fits."""
    if policy.max_bytes is None:
        return []
    chosen = []
    for file in sorted(young, key=lambda file: (file.modified, file.path)):
        if left_bytes <= policy.max_bytes:
            break
        chosen.append(file)
        left_bytes -= file.size
    return chosen


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path if "/" in pattern else path.rsplit("/", 1)[-1], pattern)

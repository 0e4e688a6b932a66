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
    """``max_age`` in seconds; ``ages``: another one for files of a pattern, the first that matches.

    Quotas, None without: ``max_bytes`` and ``max_files`` for all files of the root together, ``min_free``
    bytes that its file system shall have left. A pattern with a ``/`` is matched against the path below the
    root, one without against the name. ``settle``: seconds for which a file is left alone when nobody can
    say whether it is open.
    """

    max_age: float
    max_bytes: int | None = None
    max_files: int | None = None
    min_free: int | None = None
    ages: tuple[tuple[str, float], ...] = ()
    patterns: tuple[str, ...] = ("*",)
    keep: tuple[str, ...] = ()
    settle: float = 300.0

    @property
    def has_quota(self) -> bool:
        return any(limit is not None for limit in (self.max_bytes, self.max_files, self.min_free))

    def age_of(self, path: str) -> float:
        """The age from which a file at this path goes, in seconds."""
        return next((age for pattern, age in self.ages if _matches(path, pattern)), self.max_age)


@dataclass(frozen=True, slots=True)
class Holding:
    """What a root holds; ``free``: bytes its file system has left, None when that is not known."""

    bytes: int
    files: int
    free: int | None = None

    def without(self, file: FileFacts) -> Holding:
        free = None if self.free is None else self.free + file.size
        return Holding(self.bytes - file.size, self.files - 1, free)

    def over(self, policy: Policy) -> tuple[str, ...]:
        """The quotas that are not kept, by the names of their settings."""
        return tuple(
            name
            for name, broken in (
                ("max_bytes", policy.max_bytes is not None and self.bytes > policy.max_bytes),
                ("max_files", policy.max_files is not None and self.files > policy.max_files),
                (
                    "min_free",
                    policy.min_free is not None and self.free is not None and self.free < policy.min_free,
                ),
            )
            if broken
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    remove: bool
    reason: Reason


def decide(file: FileFacts, policy: Policy, now: float) -> Verdict:
    """Whether a file goes for its age. What is kept only as ``young`` may still go for the quota."""
    if held := _held_back(file, policy, now):
        return Verdict(remove=False, reason=held)
    if now - file.modified > policy.age_of(file.path):
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


def over_quota(young: Iterable[FileFacts], left: Holding, policy: Policy) -> list[FileFacts]:
    """The oldest of the ``young`` files that must go until ``left``, all that is left, keeps every quota."""
    chosen = []
    for file in sorted(young, key=lambda file: (file.modified, file.path)):
        if not left.over(policy):
            break
        chosen.append(file)
        left = left.without(file)
    return chosen


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path if "/" in pattern else path.rsplit("/", 1)[-1], pattern)

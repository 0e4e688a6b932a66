"""What was measured against what was aimed at, and how to compare two things fairly."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Op = Literal["<=", ">="]


@dataclass(frozen=True)
class Reach:
    """One figure. ``name`` ends in its unit, such as ``ready_warm_seconds``; ``op`` says which way is good."""

    name: str
    measured: float
    op: Op
    target: float

    @property
    def met(self) -> bool:
        return self.measured <= self.target if self.op == "<=" else self.measured >= self.target

    def line(self) -> str:
        """``REACH <name> measured=<x> target=<op><y> met|short``."""
        verdict = "met" if self.met else "short"
        return f"REACH {self.name} measured={self.measured:.4g} target={self.op}{self.target:.4g} {verdict}"


def interleaved(runs: Mapping[str, Callable[[], float]], repetitions: int = 5) -> dict[str, float]:
    """The median of each run. They take turns, so that a machine that slows down slows all of them."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            found[name].append(run())
    return {name: statistics.median(figures) for name, figures in found.items()}

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reach import Op, Reach, interleaved

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("op", "measured", "verdict"),
    [("<=", 3.0, "met"), ("<=", 5.0, "met"), ("<=", 5.1, "short"), (">=", 5.0, "met"), (">=", 4.9, "short")],
)
def test_a_figure_is_met_or_short_of_its_target(op: Op, measured: float, verdict: str) -> None:
    line = Reach("calls_per_second", measured, op, 5).line()
    assert line == f"REACH calls_per_second measured={measured:g} target={op}5 {verdict}"


def test_things_compared_take_turns_and_give_their_medians() -> None:
    turns: list[str] = []
    figures = {"ours": iter([9.0, 1.0, 2.0]), "theirs": iter([3.0, 100.0, 4.0])}

    def run(name: str) -> float:
        turns.append(name)
        return next(figures[name])

    medians = interleaved({"ours": lambda: run("ours"), "theirs": lambda: run("theirs")}, repetitions=3)
    assert medians == {"ours": 2.0, "theirs": 4.0}
    assert turns == ["ours", "theirs"] * 3


def test_a_measurement_that_does_not_exist_is_refused_with_those_that_do() -> None:
    command = [sys.executable, "-m", "benchmarks", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no measurement named nothing; there are: " in done.stderr
    assert "ready" in done.stderr

"""The whole proof: an outage, kill -9 at every step and at random, on both brokers: ``make proof``.

    python -m tests.proof [--kills 100] [--seed N]

A lane a broker, side by side, each with servers of its own; what a lane says is passed on with its name. The
lines of the contract come last, and the exit status is 0 only when every part has ended with 0.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.servers import child_options

_AT_LEAST = 500  # deaths at chosen points, for each broker


@dataclass(frozen=True)
class Part:
    """One process of the proof: its arguments, how it ended, and its line."""

    arguments: tuple[str, ...]
    status: int
    line: str | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="at random, for each broker")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked = parser.parse_args()
    began = time.monotonic()
    lanes = {broker: _parts(broker, asked) for broker in ("rabbitmq", "redis")}
    lanes["redis"].insert(0, ("tests.proof.outage",))
    with ThreadPoolExecutor(len(lanes)) as pool:
        done = [pool.submit(_lane, name, parts, began) for name, parts in lanes.items()]
        ended = [part for lane in done for part in lane.result()]
    print(f"seed {asked.seed}, {time.monotonic() - began:.0f} s", flush=True)
    for part in ended:
        if part.status != 0 or part.line is None:
            print(f"FAILED with {part.status}: python -m {' '.join(part.arguments)}")
    for part in ended:
        if part.line is not None:
            print(part.line)
    return int(any(part.status != 0 or part.line is None for part in ended))


def _parts(broker: str, asked: argparse.Namespace) -> list[tuple[str, ...]]:
    same = ("--broker", broker, "--seed", str(asked.seed))
    return [
        ("tests.proof.crash_points", *same, "--kills", str(_AT_LEAST)),
        ("tests.proof.random_kills", *same, "--kills", str(asked.kills)),
    ]


def _lane(name: str, parts: list[tuple[str, ...]], began: float) -> list[Part]:
    return [_run(name, part, began) for part in parts]


def _run(lane: str, arguments: tuple[str, ...], began: float) -> Part:
    """To its end, each of its lines printed as it comes; its own PROOF line is kept for the end."""
    command = [sys.executable, "-m", *arguments]
    line = None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **child_options()
    ) as process:
        assert process.stdout is not None
        for said in process.stdout:
            if said.startswith("PROOF "):
                line = said.rstrip()
            print(f"{time.monotonic() - began:4.0f} s  {lane:8}  {said.rstrip()}", flush=True)
    return Part(arguments, process.returncode, line)


if __name__ == "__main__":
    sys.exit(main())

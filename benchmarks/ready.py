"""How long `make run` takes until it is ready, how long to stop, and how long a killed child is away."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

from benchmarks.reach import Reach, interleaved
from tests.acceptance.local_stack import LocalStack
from tests.waiting import eventually

TARGETS = {
    "ready_new_seconds": 15.0,
    "ready_again_seconds": 15.0,
    "page_back_seconds": 5.0,
    "stop_seconds": 10.0,
}


def measure() -> list[Reach]:
    with tempfile.TemporaryDirectory() as folder:
        lives = _Lives(Path(folder))
        found = interleaved(
            {
                "ready_new_seconds": lives.start_new,
                "page_back_seconds": lives.kill_page,
                "stop_seconds": lives.stop,
                "ready_again_seconds": lives.start_again,
                "_": lives.stop,
            },
            repetitions=3,
        )
        lives.stack.close()
    return [Reach(name, found[name], "<=", target) for name, target in TARGETS.items()]


class _Lives:
    """The same stack, started, hurt, stopped and started again; each step tells its seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.stack = LocalStack(folder / "0")

    def start_new(self) -> float:
        self.number += 1
        self.stack = LocalStack(self.folder / str(self.number))
        return self.stack.start()

    def start_again(self) -> float:
        return self.stack.start()

    def kill_page(self) -> float:
        began = time.monotonic()
        self.stack.child("web").kill()
        eventually(lambda: self.stack.get("/health/live") == 200, 60)
        return time.monotonic() - began

    def stop(self) -> float:
        began = time.monotonic()
        self.stack.ask_to_stop(signal.SIGTERM)
        return time.monotonic() - began

"""What a worker does in a storm, in a process of its own: it looks, and makes the attempts that are due."""

from __future__ import annotations

import os
from collections.abc import Mapping
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from regrow.engine import Engine
from regrow.recovery import service
from regrow.settings import load_settings


class Taken:
    """A sender whose tasks this very worker takes."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def send(self, _task: str, kwargs: Mapping[str, Any], *, queue: str) -> None:
        assert queue == "regrow.control"
        self.names.append(kwargs["service"])


def work(file: Path, environ: Mapping[str, str], start: Barrier, enough: Event) -> None:
    """Tick until it is enough, and three times more; then end with 0."""
    sender = Taken()
    engine = Engine(load_settings(file, environ=environ), sender=sender)  # type: ignore[arg-type]
    start.wait(120)
    left = 3
    while left:
        left -= enough.is_set()
        service.start_recoveries(engine)
        names, sender.names = sender.names, []
        for name in names:
            service.attempt(engine, name)
    engine.close()
    os._exit(0)

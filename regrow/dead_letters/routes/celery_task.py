"""Home to a Celery task: under its own id, with its own options, and with callbacks that tell the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from regrow.dead_letters.home import Home, compose
from regrow.dead_letters.route import Outbound, Settled
from regrow.engine import Engine

BROKER = "regrow.broker"
"""The circuit breaker around publishing: a broker that is away is not asked again for every letter."""


@dataclass(frozen=True)
class CeleryTask:
    """``settled``: ``outcome`` (the task's success), or ``publish`` (the broker has the message)."""

    engine: Engine = field(repr=False)
    home: Home
    settled: Settled

    runs_here: Literal[False] = False
    longest: float = 15.0
    breaker: str = BROKER

    @property
    def target(self) -> str:
        return f"task {self.home.task} on queue {self.home.queue}"

    def send(self, outbound: Outbound) -> None:
        letter, body = outbound.letter, outbound.body
        message = compose(
            self.home,
            reference=outbound.reference,
            letter_id=letter.id,
            task_id=letter.task_id,
            body=body.body,
            content_type=body.content_type,
            content_encoding=body.content_encoding,
            headers=body.headers,
        )
        self.engine.sender.send_home(message, queue=self.home.queue)

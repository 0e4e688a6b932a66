"""Home to a Celery task: under its own id, with its own options, and with callbacks that tell the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from regrow.dead_letters.home import Home, HomeMessage, compose
from regrow.dead_letters.posting import EFFECT_KEY, sent_headers
from regrow.dead_letters.route import Outbound, Place
from regrow.dead_letters.routes.brokers import breaker_of
from regrow.engine import Engine


@dataclass(frozen=True)
class CeleryTask:
    """``settled``: ``outcome`` (the task's success), or ``publish`` (the broker has the message)."""

    engine: Engine = field(repr=False)
    home: Home
    settled: Literal["outcome", "publish"]
    broker: str | None = None

    runs_here: Literal[False] = False
    longest: float = 15.0

    @property
    def breaker(self) -> str:
        return breaker_of(self.broker)

    @property
    def target(self) -> str:
        where = f"task {self.home.task} on queue {self.home.queue}"
        return where if self.broker is None else f"{where} of broker {self.broker}"

    @property
    def place(self) -> Place:
        return Place(self.broker, self.home.queue)

    def send(self, outbound: Outbound) -> None:
        self.engine.sender_on(self.broker).send_home(self._message(outbound), queue=self.home.queue)

    def validate(self, outbound: Outbound) -> None:
        self._message(outbound)

    def _message(self, outbound: Outbound) -> HomeMessage:
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
            # Callbacks are sent to the broker of the task, and only on our own do our workers hear them; on
            # another one the header tells, in an app that has installed Regrow.
            callbacks=self.broker is None,
        )
        own = {EFFECT_KEY: outbound.effect_key, **sent_headers(self.engine.clock())}
        return replace(message, headers={**message.headers, **own})

"""Home to an exchange or a queue of RabbitMQ, with the broker's confirmation that it was routed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from regrow.dead_letters.home import Raw
from regrow.dead_letters.posting import Posting, posting_of, sent_headers
from regrow.dead_letters.route import Outbound, Place
from regrow.dead_letters.routes.brokers import breaker_of, declared_broker
from regrow.dead_letters.store import Addressed
from regrow.engine import Engine
from regrow.errors import RouteError
from regrow.settings.routes import AmqpRoute


@dataclass(frozen=True)
class Publication:
    """``settled``: ``publish``, unless the consumer tells the outcome. ``broker`` None: Regrow's own."""

    engine: Engine = field(repr=False)
    broker: str | None
    exchange: str
    routing_key: str
    settled: Literal["outcome", "publish"] = "publish"

    runs_here: Literal[False] = False
    longest: float = 15.0

    @property
    def breaker(self) -> str:
        return breaker_of(self.broker)

    @property
    def target(self) -> str:
        where = Posting(self.exchange, self.routing_key, Raw(b"", "", "")).target
        return where if self.broker is None else f"{where} of broker {self.broker}"

    @property
    def place(self) -> Place | None:
        return None if self.exchange else Place(self.broker, self.routing_key)

    def send(self, outbound: Outbound) -> None:
        body = outbound.body
        posting = posting_of(
            self.exchange,
            self.routing_key,
            Raw(body.body, body.content_type, body.content_encoding),
            body.headers,
            reference=outbound.reference,
            effect_key=outbound.effect_key,
        )
        headers = {**posting.headers, **sent_headers(self.engine.clock())}
        self.engine.sender_on(self.broker).publish(replace(posting, headers=headers))

    def validate(self, outbound: Outbound) -> None:
        """Whether it is routed the broker says when it is sent."""


def back_to_its_queue(engine: Engine, letter: Addressed) -> Publication | None:
    """The queue that the message died in, for one that a broker's dead-letter queue told us of.

    Not its exchange: that would deliver it again to every other queue bound there, whose consumers have done
    their part.
    """
    if not letter.queue or letter.routing_key is None:
        return None
    return Publication(engine, declared_broker(engine, letter.broker), "", letter.queue)


def as_declared(engine: Engine, declared: AmqpRoute, letter: Addressed) -> Publication:
    """What the route says, completed by where the message was published at first."""
    exchange = letter.exchange if declared.exchange is None else declared.exchange
    key = letter.routing_key if declared.routing_key is None else declared.routing_key
    if exchange is None or key is None:
        raise RouteError(
            f"nothing says which exchange the letter was published to: declare exchange and routing_key "
            f"in [dead_letters.routes.{letter.message_type}]"
        )
    broker = declared_broker(engine, declared.broker or letter.broker)
    return Publication(engine, broker, exchange, key, declared.confirm)

"""What ``[dead_letters.routes.MESSAGE_TYPE]`` may declare: one model a kind, told apart by ``kind``.

Also ``[brokers.NAME]`` and ``[dead_letters.queues.NAME]``, the brokers and queues beside Regrow's own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator

from regrow.settings.checks.common import Seconds
from regrow.settings.shapes import Address, Function, Section, SigningKeys, at_least_one

Name = Annotated[str, Field(min_length=1, max_length=255)]


class CeleryRoute(Section):
    """A Celery task that takes the message as its only argument, unless the message is a call of it."""

    kind: Literal["celery"] = "celery"
    task: Name
    """Its registered name."""
    queue: Name = "celery"
    """The queue that its workers read."""
    broker: str | None = None
    """A broker of `[brokers]`; without it, Regrow's own."""
    confirm: Literal["outcome", "publish"] | None = None
    """What settles the letter; without it what the letter says, and on another broker `publish`."""


class AmqpRoute(Section):
    """A message to an exchange of RabbitMQ. What is not said here the message's own origin says."""

    kind: Literal["amqp"]
    exchange: Annotated[str, Field(max_length=255)] | None = None
    """The exchange; empty: straight to the queue that `routing_key` names."""
    routing_key: Annotated[str, Field(max_length=255)] | None = None
    """The routing key."""
    broker: str | None = None
    """A broker of `[brokers]`; without it the one it came from, else Regrow's own."""
    confirm: Literal["outcome", "publish"] = "publish"
    """What settles the letter: the broker's word that it has the message, or its consumer's word."""


class WebhookRoute(Section):
    """A signed POST; a 2xx answer settles the letter."""

    kind: Literal["webhook"]
    url: Address
    """Where it goes: https, but for loopback names and the testing profile."""
    signing_keys: Annotated[SigningKeys, AfterValidator(at_least_one)]
    """Each signs the request; as a list, or one a line in the file of `signing_keys_file`."""
    timeout: Seconds = 15.0
    """Longest wait for the connection, and for the answer."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent along; secrets by ${VARIABLE} or NAME_file."""


class HandlerRoute(Section):
    """A Python function that is called here, with the message; its return settles the letter."""

    kind: Literal["handler"]
    handler: Function
    """`package.module:function`; it takes one argument, a `regrow.dead_letters.Message`."""
    validate_with: Function | None = None
    """A second function of the same form, without side effects, that raises when it would not take it."""


RouteSettings = Annotated[CeleryRoute | AmqpRoute | WebhookRoute | HandlerRoute, Field(discriminator="kind")]

ROUTE_KINDS = ("celery", "amqp", "webhook", "handler")


class BrokerSettings(Section):
    """A broker beside Regrow's own, by a name of yours."""

    url: SecretStr
    """Redis or RabbitMQ."""
    password: SecretStr | None = None
    """Put into the URL; for a secret file."""

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: SecretStr) -> SecretStr:
        schemes = {"amqp", "amqps", "pyamqp", "redis", "rediss", "unix", "sentinel"}
        if value.get_secret_value().split("://", 1)[0] not in schemes:
            raise ValueError(
                "the URL must begin with amqp://, amqps://, redis://, rediss://, unix:// or sentinel://"
            )
        return value

    @property
    def is_rabbitmq(self) -> bool:
        return is_rabbitmq(self.url.get_secret_value())


class DeadLetterQueue(Section):
    """A dead-letter queue of RabbitMQ that Regrow's workers take from. It is never declared or changed."""

    queue: Name
    """Its name on the broker."""
    broker: str | None = None
    """A broker of `[brokers]`; without it, Regrow's own."""
    service: Annotated[str, Field(max_length=190)] | None = None
    """Whose breaker rules the redrive; without it, the queue that the message died in."""
    message_type: Annotated[str, Field(max_length=190)] | None = None
    """By which routes are declared; without it the message's own `type`, else the queue it died in."""
    prefetch: Annotated[int, Field(ge=1, le=1000)] = 50
    """Messages in hand at once: captured together, acknowledged when they are committed."""


def is_rabbitmq(url: str) -> bool:
    return url.split("://", 1)[0] in {"amqp", "amqps", "pyamqp"}

"""Checks of stores and queues: Redis, databases, the broker's queues."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from regrow import redis_url
from regrow.settings.checks.common import Check, Seconds, TimedCheck, ordered

Count = Annotated[int, Field(ge=0)]
OWN_QUEUES = ("regrow.control", "regrow.capture", "regrow.redrive")


class RedisCheck(TimedCheck):
    kind: Literal["redis"]
    url: SecretStr | None = None
    """Another Redis than Regrow's own: server, Sentinel or cluster, as `redis.url`."""

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            redis_url.read(value.get_secret_value())
        return value


class DatabaseCheck(TimedCheck):
    """Regrow's own database, or any other that SQLAlchemy has a driver for."""

    kind: Literal["database", "mysql"]
    url: SecretStr | None = None
    """Another database than Regrow's own: any SQLAlchemy URL whose driver is installed."""
    query: str | None = None
    """Asked instead of SELECT 1; read only, one statement."""
    warning: float | None = None
    """The query's first value is a number, and from this one on it is degraded."""
    critical: float | None = None
    """From this number on it is unhealthy."""

    @field_validator("url")
    @classmethod
    def _is_one(cls, value: SecretStr | None) -> SecretStr | None:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        if value is not None:
            try:
                make_url(value.get_secret_value())
            except (ArgumentError, ValueError):
                msg = "this is no SQLAlchemy URL; write DIALECT+DRIVER://USER:PASSWORD@HOST/DATABASE"
                raise ValueError(msg) from None
        return value

    @model_validator(mode="after")
    def _asks_for_a_number(self) -> Self:
        ordered(self.warning, self.critical)
        if self.query is None and (self.warning is not None or self.critical is not None):
            msg = "warning and critical judge what a query answers: give one with query"
            raise ValueError(msg)
        return self


class QueueCheck(Check):
    """Depth of the broker's queues (waiting plus unacknowledged), and how long the oldest message waits."""

    kind: Literal["queue"]
    queues: tuple[str, ...] = OWN_QUEUES
    """The queues that are added up."""
    broker: str | None = None
    """A broker of `[brokers]`; without it, Regrow's own."""
    unacked_key: str | None = None
    """Redis: the hash of deliveries in hand; None: Regrow's own, on another broker `unacked`."""
    key_prefix: str = ""
    """Redis: what the app puts before all its keys (`global_keyprefix` of its transport options)."""
    warning: Count = 1_000
    """Messages from which it is degraded."""
    critical: Count = 10_000
    """Messages from which it is unhealthy."""
    oldest_warning: Seconds | None = None
    """Redis: the oldest message waits for so long: degraded."""
    oldest_critical: Seconds | None = None
    """Redis: the oldest message waits for so long: unhealthy."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.warning, self.critical)
        ordered(self.oldest_warning, self.oldest_critical, "oldest_warning oldest_critical")
        return self

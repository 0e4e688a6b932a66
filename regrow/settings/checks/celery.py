"""Checks of what runs Celery: workers, beat, and the whole way of a task."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regrow.settings.checks.common import Check, Seconds, ordered
from regrow.settings.checks.stores import OWN_QUEUES

OWN_APP = "regrow"


class CeleryWorkerCheck(Check):
    """The workers of one Celery app: do they live, and do they get on."""

    kind: Literal["celery_worker"]
    app: str = OWN_APP
    """The app's name, as in `Celery("shop")`; without it, Regrow's own workers."""
    broker: str | None = None
    """Its broker, one of `[brokers]`; without it, Regrow's own."""
    queues: tuple[str, ...] = OWN_QUEUES
    """Each of these needs a living worker that takes from it."""
    nodes: tuple[str, ...] = ()
    """Node names that must be there (`celery@web-1`); others may be there too."""
    ping: bool = True
    """Whether the nodes are pinged, too; without it their heartbeats must do."""
    max_age: Seconds = 30.0
    """A heartbeat older than this is of a dead worker."""
    stuck_after: Seconds = 300.0
    """Work waits, and no task has ended or begun for so long: the worker is wedged."""
    backlog: Annotated[int, Field(ge=1)] = 1_000
    """From so many waiting messages on, a worker that gets on is saturated."""
    unacked_key: str | None = None
    """Redis: the hash of deliveries in hand; None: Regrow's own, of another app `unacked`."""
    key_prefix: str = ""
    """Redis: what the app puts before all its keys (`global_keyprefix` of its transport options)."""
    control_exchange: str | None = None
    """Where its remote control listens; None: Regrow's own, of another app `celery`."""

    @model_validator(mode="after")
    def _says_its_queues(self) -> Self:
        if self.app != OWN_APP and "queues" not in self.model_fields_set:
            msg = f"say which queues the workers of {self.app} take from: queues = [...]"
            raise ValueError(msg)
        return self


class CeleryBeatCheck(Check):
    """The age of beat's last tick; older than ``max_age`` seconds means dead."""

    kind: Literal["celery_beat"]
    max_age: Seconds = 60.0
    """A tick older than this is of a beat that is dead, or alive and stalled."""


class CanaryCheck(Check):
    """A tiny task sent through each queue: how long until it ran."""

    kind: Literal["canary"]
    queues: tuple[str, ...] = OWN_QUEUES
    """Each of these gets a task."""
    broker: str | None = None
    """A broker of `[brokers]`; without it, Regrow's own."""
    warning: Seconds = 10.0
    """A task that takes longer is degraded."""
    critical: Seconds = 60.0
    """A task that takes longer is unhealthy: it counts as lost."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.warning, self.critical)
        return self

"""Checks of what runs Celery: workers and beat."""

from __future__ import annotations

from typing import Literal

from regrow.settings.checks.common import Check, Seconds
from regrow.settings.checks.stores import OWN_QUEUES


class CeleryWorkerCheck(Check):
    """Fresh heartbeats of Regrow's own workers; older than ``max_age`` seconds means dead."""

    kind: Literal["celery_worker"]
    max_age: Seconds = 30.0
    """A heartbeat older than this is of a dead worker."""
    queues: tuple[str, ...] = OWN_QUEUES
    """Each of these needs a living worker that takes from it."""


class CeleryBeatCheck(Check):
    """The age of beat's last tick; older than ``max_age`` seconds means dead."""

    kind: Literal["celery_beat"]
    max_age: Seconds = 60.0
    """A tick older than this is of a dead beat."""

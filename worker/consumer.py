"""The consumer of Regrow's own workers: keeps the heart beating while its broker is away, and stays quiet.

Mingle, gossip and event heartbeats are left out: they only serve each other and monitors that listen to
events, which are off. Our own heartbeat says who lives. ``celery inspect`` works as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):  # type: ignore[misc, unused-ignore]
    controller: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        quiet = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        super().__init__(
            *args, **{**options, "worker_options": {**(options.get("worker_options") or {}), **quiet}}
        )

    def ensure_connected(self, conn: Any) -> Any:
        """As Celery does it; each second of waiting is one pulse, because no timer fires meanwhile."""
        connect = conn.ensure_connection

        def pulsing(
            errback: Any = None, *args: Any, callback: Callable[[], None] | None = None, **more: Any
        ) -> Any:
            def pulse() -> None:
                self._pulse("broker_away")
                if callback is not None:
                    callback()

            return connect(errback, *args, callback=pulse, **more)

        conn.ensure_connection = pulsing
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._pulse("broker_away")
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        self._pulse("broker_away")
        super().on_connection_error_after_connected(exc)

    def _pulse(self, state: str) -> None:
        heart = getattr(self.controller, "regrow_heart", None)
        if heart is not None and heart.last.state != "draining":
            heart.beat(state)

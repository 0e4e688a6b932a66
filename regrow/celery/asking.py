"""Asking the workers of an app by Celery's remote control: named nodes, and no longer than until they
answered.

Without a limit a broadcast waits for its whole timeout, whoever has answered. Since Celery 5.7 beat may
answer pings too: whoever is looked for is asked what beat cannot tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from regrow.celery.urls import broker_of

OWN_EXCHANGE = "regrow.pidbox"
"""Where our own workers listen (``control_exchange`` in worker/configuration.py)."""


@dataclass(frozen=True)
class Work:
    """What a node says of its pool. ``begun_at``: epoch seconds; None when nothing runs."""

    pool: int | None
    active: int
    held: int
    done: int
    begun_at: float | None


class Asker:
    """One connection to a broker, over which nodes are asked."""

    def __init__(self, app: Any, connection: Any) -> None:
        self._app = app
        self._connection = connection

    def ping(self, nodes: Collection[str], timeout: float) -> set[str]:
        """Those of ``nodes`` that answer within ``timeout`` seconds."""
        return set(self._ask("ping", nodes, timeout)) if nodes else set()

    def found(self, timeout: float) -> set[str]:
        """Whichever workers answer; it takes the whole ``timeout`` (seconds). Beat has no statistics."""
        return set(self._ask("stats", (), timeout))

    def work(self, nodes: Collection[str], timeout: float) -> dict[str, Work]:
        """What each of ``nodes`` does, as far as it answers all questions in time."""
        if not nodes:
            return {}
        stats, active, held = (
            self._ask(command, nodes, timeout, **arguments)
            for command, arguments in (("stats", {}), ("active", {"safe": True}), ("reserved", {}))
        )
        return {
            node: _work(stats[node], active[node], held[node])
            for node in nodes
            if node in stats and node in active and node in held
        }

    def _ask(self, command: str, nodes: Collection[str], timeout: float, **arguments: Any) -> dict[str, Any]:
        replies = self._app.control.broadcast(
            command,
            arguments=arguments,
            destination=sorted(nodes) or None,
            reply=True,
            timeout=timeout,
            limit=len(nodes) or None,
            connection=self._connection,
        )
        return {node: told for reply in replies or () for node, told in reply.items()}


@contextmanager
def asking(url: str, exchange: str, timeout: float) -> Iterator[Asker]:
    """An asker on the broker at ``url``, whose workers listen at ``exchange``.

    Raises kombu's OperationalError or the connection's own errors when the broker is away.
    """
    import celery

    broker = broker_of(url)
    app: Any = celery.Celery("regrow-asker", set_as_current=False)
    bound = max(1.0, timeout)
    amqp = url.startswith(("amqp", "pyamqp"))
    bounds: Mapping[str, float] = (
        {"read_timeout": bound, "write_timeout": bound}
        if amqp
        else {"socket_timeout": bound, "socket_connect_timeout": bound}
    )
    app.conf.update(
        **{**broker, "broker_transport_options": {**broker["broker_transport_options"], **bounds}},
        control_exchange=exchange,
        broker_connection_timeout=bound,
        accept_content=["json"],
    )
    connection = app.connection_for_write()
    try:
        connection.ensure_connection(max_retries=0, timeout=bound)
        yield Asker(app, connection)
    finally:
        connection.release()
        app.close()


def _work(stats: Any, active: Any, held: Any) -> Work:
    running = [task for task in active if isinstance(task, dict)]
    began = [float(task["time_start"]) for task in running if task.get("time_start")]
    total = sum(int(count) for count in (stats.get("total") or {}).values())
    pool = (stats.get("pool") or {}).get("max-concurrency")
    return Work(
        pool=int(pool) if isinstance(pool, int) else None,
        active=len(running),
        held=len(held),
        done=max(0, total - len(running)),
        begun_at=max(began, default=None),
    )

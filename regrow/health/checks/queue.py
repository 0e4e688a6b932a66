"""The broker's queues: how many messages wait, and how many are delivered but not acknowledged.

On Redis the depth is ``LLEN`` of each queue and its priority sub-queues plus ``HLEN`` of what our workers
hold: a wedged pool shows an empty list and all its messages in the hash. On an AMQP broker a passive declare
tells waiting messages and consumers; unacknowledged ones are not told there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regrow.health.rules import Finding, finding, judge
from regrow.redis_url import kind_of
from regrow.settings import Settings
from regrow.settings.checks import QueueCheck

UNACKED = "regrow.unacked"
"""The hash in which our workers' transport keeps deliveries (``unacked_key`` in worker/configuration.py)."""

_PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""What kombu's Redis transport appends to a queue's name for each priority step."""


def probe(check: QueueCheck, settings: Settings) -> Finding:
    url = settings.celery.broker_url.get_secret_value()
    if kind_of(url) is not None:
        return _on_redis(check, url)
    return _on_amqp(check, url)


def verdict(
    check: QueueCheck,
    waiting: Mapping[str, int | None],
    *,
    unacked: int | None,
    consumers: Mapping[str, int] | None = None,
) -> Finding:
    """``waiting``: messages per queue, None for a queue that does not exist. ``unacked`` None: not told."""
    depth = sum(count or 0 for count in waiting.values()) + (unacked or 0)
    data = {"depth": depth, "waiting": dict(waiting), "unacked": unacked, "consumers": consumers}
    status = judge(depth, check.warning, check.critical)
    counted = f"{depth} message{'' if depth == 1 else 's'}"
    remarks = [counted if unacked is None else f"{counted}, {unacked} in hand"]
    if missing := [name for name, count in waiting.items() if count is None]:
        remarks.append(f"not declared yet: {', '.join(missing)}")
    if idle := [name for name, count in (consumers or {}).items() if count == 0]:
        remarks.append(f"nobody consumes {', '.join(idle)}")
    if (missing or idle) and status == "healthy":
        status = "degraded"
    return finding(status, "; ".join(remarks), **data)


def _on_redis(check: QueueCheck, url: str) -> Finding:
    import redis

    from regrow.health.checks.redis_client import asking

    try:
        with asking(url, check.timeout) as client, client.pipeline(transaction=False) as asked:
            for name in check.queues:
                for priority in _PRIORITIES:
                    asked.llen(name + priority)
            asked.hlen(UNACKED)
            *lengths, unacked = asked.execute()
    except (redis.RedisError, OSError) as error:
        return finding("unhealthy", f"the broker does not answer: {type(error).__name__}: {error}")
    return verdict(check, _per_queue(check.queues, lengths), unacked=unacked)


def _per_queue(names: Sequence[str], lengths: Sequence[int]) -> dict[str, int]:
    steps = len(_PRIORITIES)
    return {name: sum(lengths[at * steps : (at + 1) * steps]) for at, name in enumerate(names)}


def _on_amqp(check: QueueCheck, url: str) -> Finding:
    from kombu import Connection
    from kombu.exceptions import OperationalError

    waiting: dict[str, int | None] = {}
    consumers: dict[str, int] = {}
    bound = max(1.0, 0.45 * check.timeout)
    options = {"read_timeout": bound, "write_timeout": bound}
    connection: Any = Connection(url, connect_timeout=bound, heartbeat=0, transport_options=options)
    try:
        connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        for name in check.queues:
            try:
                with connection.channel() as channel:
                    told = channel.queue_declare(queue=name, passive=True)
                waiting[name], consumers[name] = told.message_count, told.consumer_count
            except connection.channel_errors:
                waiting[name] = None
    except (*connection.connection_errors, OperationalError) as error:
        return finding("unhealthy", f"the broker does not answer: {type(error).__name__}: {error}")
    finally:
        connection.release()
    return verdict(check, waiting, unacked=None, consumers=consumers)

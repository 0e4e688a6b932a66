"""The broker's queues: how many messages wait or are in hand, and how long the oldest has waited.

A message says when it was sent if its sender's app has ``regrow.celery.install``; for any other the time is
taken since which the same message has been seen at the head of its queue, which is never too long.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from regrow.health.checks import broker, since
from regrow.health.checks.broker import BrokerAwayError, Head, Told
from regrow.health.checks.conditions import Remark, concluded
from regrow.health.rules import Finding, finding, judge
from regrow.settings import Settings
from regrow.settings.checks import QueueCheck


def probe(check: QueueCheck, settings: Settings) -> Finding:
    return _found(check, settings, lasting=True)


def look(check: QueueCheck, settings: Settings) -> Finding:
    """As :func:`probe`, for who passes by: what is at the head of a queue is not remembered for the next."""
    return _found(check, settings, lasting=False)


def _found(check: QueueCheck, settings: Settings, *, lasting: bool) -> Finding:
    url = settings.broker_url(check.broker)
    key = broker.unacked_key(settings, check.broker, check.unacked_key)
    try:
        told = broker.ask(url, check.queues, key, check.timeout, prefix=check.key_prefix)
    except BrokerAwayError as error:
        return finding("unhealthy", f"the broker does not answer: {error}")
    return verdict(check, told, _ages(check, settings, told.heads, time.time(), lasting=lasting))


def verdict(check: QueueCheck, told: Told, ages: Mapping[str, float]) -> Finding:
    """``ages``: seconds that the oldest message of each queue has waited, where that is known."""
    depth = told.depth
    oldest = max(ages.values(), default=None)
    data = {
        "depth": depth,
        "waiting": dict(told.waiting),
        "unacked": told.unacked,
        "consumers": told.consumers,
        "oldest": None if oldest is None else round(oldest, 1),
    }
    counted = f"{depth} message{'' if depth == 1 else 's'}"
    said = counted if told.unacked is None else f"{counted}, {told.unacked} in hand"
    remarks = [Remark(judge(depth, check.warning, check.critical), "too many")]
    if oldest is not None:
        said += f", the oldest waits for {oldest:.0f} s"
        limits = [limit for limit in (check.oldest_warning, check.oldest_critical) if limit is not None]
        if limits:
            status = judge(oldest, min(limits), check.oldest_critical)
            remarks.append(Remark(status, "the oldest waits too long"))
    if missing := [name for name, count in told.waiting.items() if count is None]:
        remarks.append(Remark("degraded", f"not declared yet: {', '.join(missing)}"))
    if idle := [name for name, count in (told.consumers or {}).items() if count == 0]:
        remarks.append(Remark("degraded", f"nobody consumes {', '.join(idle)}"))
    return concluded(said, remarks, **data)


def _ages(
    check: QueueCheck, settings: Settings, heads: Mapping[str, Head], now: float, *, lasting: bool
) -> dict[str, float]:
    told = {name: max(0.0, now - head.sent_at) for name, head in heads.items() if head.sent_at is not None}
    marks = {name: head.mark for name, head in heads.items() if head.sent_at is None}
    url = settings.redis.url.get_secret_value()
    name = f"queue:{check.broker or ''}:{','.join(check.queues)}"
    return {**since.remembered(url, name, marks, now, check.timeout, lasting=lasting), **told}

"""Celery workers, by their heartbeats.

No broadcast: it would be green on a wedged pool, and costs a second. A worker that waits for its broker is
alive; it is unhealthy when no other one consumes. So is a queue of ours that no living worker takes from:
workers may share the queues out among them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from regrow.health.checks import heartbeats
from regrow.health.rules import Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import CeleryWorkerCheck

_WORKS = frozenset({"running"})


def probe(check: CeleryWorkerCheck, settings: Settings) -> Finding:
    url = settings.redis.url.get_secret_value()
    return heartbeats.asked(
        lambda: heartbeats.from_redis(url, "worker", check.timeout, time.time()),
        lambda found: verdict(found, check.max_age, check.queues),
    )


def verdict(found: Sequence[heartbeats.Heartbeat], max_age: float, queues: Sequence[str] = ()) -> Finding:
    told = heartbeats.judge(found, max_age, what="worker", works=_WORKS, cut_off="broker_away")
    if told.status not in {"healthy", "degraded"}:
        return told
    working = [worker for worker in found if worker.is_fresh(max_age) and worker.state in _WORKS]
    deserted = _deserted(queues, working)
    if not working or not deserted:
        return told
    return finding("unhealthy", f"no worker takes from {', '.join(deserted)}; {told.message}", **told.data)


def _deserted(queues: Sequence[str], working: Sequence[heartbeats.Heartbeat]) -> list[str]:
    """The queues that none of these takes from. One that does not say takes from all."""
    if any(worker.queues is None for worker in working):
        return []
    return [name for name in queues if not any(name in (worker.queues or ()) for worker in working)]

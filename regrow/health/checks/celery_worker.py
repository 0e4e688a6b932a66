"""Celery workers, by their heartbeats.

No broadcast: it would be green on a wedged pool, and costs a second. A worker that waits for its broker is
alive; it is unhealthy when no other one consumes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from regrow.health.checks import heartbeats
from regrow.health.rules import Finding
from regrow.settings import Settings
from regrow.settings.checks import CeleryWorkerCheck


def probe(check: CeleryWorkerCheck, settings: Settings) -> Finding:
    url = settings.redis.url.get_secret_value()
    return heartbeats.asked(
        lambda: heartbeats.from_redis(url, "worker", check.timeout, time.time()),
        lambda found: verdict(found, check.max_age),
    )


def verdict(found: Sequence[heartbeats.Heartbeat], max_age: float) -> Finding:
    return heartbeats.judge(
        found, max_age, what="worker", works=frozenset({"running"}), cut_off="broker_away"
    )

"""Celery beat, by the age of its last tick. Of several beats one runs and the others stand by."""

from __future__ import annotations

import time
from collections.abc import Sequence

from regrow.health.checks import heartbeats
from regrow.health.rules import Finding
from regrow.settings import Settings
from regrow.settings.checks import CeleryBeatCheck


def probe(check: CeleryBeatCheck, settings: Settings) -> Finding:
    url = settings.redis.url.get_secret_value()
    return heartbeats.asked(
        lambda: heartbeats.from_redis(url, "beat", check.timeout, time.time()),
        lambda found: verdict(found, check.max_age),
    )


def verdict(found: Sequence[heartbeats.Heartbeat], max_age: float) -> Finding:
    return heartbeats.judge(found, max_age, what="beat", works=frozenset({"running"}), cut_off="redis_away")

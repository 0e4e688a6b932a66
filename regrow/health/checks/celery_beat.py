"""Celery beat, by the age of its last tick: dead, or alive and stalled. Of several one runs, others stand by.

Its loop says when it ticked, and another thread of its process when it was there: a beat whose loop hangs is
stalled, one that is gone, killed or stopped is dead. So is stalled one that ticks on and sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from regrow.health.checks import heartbeats
from regrow.health.checks.heartbeats import Heartbeat
from regrow.health.rules import Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import CeleryBeatCheck


def probe(check: CeleryBeatCheck, settings: Settings) -> Finding:
    url = settings.redis.url.get_secret_value()
    return heartbeats.asked(
        lambda: heartbeats.from_redis(url, "beat", check.timeout, time.time()),
        lambda found: verdict(found, check.max_age),
    )


def verdict(found: Sequence[Heartbeat], max_age: float) -> Finding:
    told = heartbeats.judge(found, max_age, what="beat", works=frozenset({"running"}), cut_off="redis_away")
    fresh = [beat for beat in found if beat.is_fresh(max_age)]
    if not fresh:
        hanging = [beat for beat in found if beat.silent is not None and abs(beat.silent) <= max_age]
        if hanging:
            said = f"stalled: the process lives, but has not ticked for {min(b.age for b in hanging):.0f} s"
            return finding("unhealthy", said, **told.data, verdict="stalled")
        verdict = "dead" if found else "unknown"
        said = f"dead: {told.message}" if found else told.message
        return finding(told.status, said, **told.data, verdict=verdict)
    leading = [beat for beat in fresh if beat.state == "running"]
    quiet = [beat for beat in leading if sends_nothing(beat, max_age)]
    if quiet and len(quiet) == len(leading):
        said = f"stalled: {quiet[0].node} ticks, and has sent nothing for {_idle(quiet[0]):.0f} s"
        return finding("unhealthy", said, **told.data, verdict="stalled")
    return finding(told.status, told.message, **told.data, verdict="ticking")


def sends_nothing(beat: Heartbeat, max_age: float) -> bool:
    """Whether it should have sent something long ago. A beat that says neither is believed."""
    every, idle = beat.number("every"), _idle(beat)
    return every is not None and idle is not None and idle > max(max_age, 3 * every)


def _idle(beat: Heartbeat) -> float | None:
    """Seconds since it sent its last message, or since it took the lead when it has sent none yet."""
    moments = [beat.ago(name) for name in ("sent_at", "leads_since")]
    return min((ago for ago in moments if ago is not None), default=None)

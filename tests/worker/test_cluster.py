"""Worker and beat whose live state lies in a Redis Cluster, with a broker of their own beside it."""

from __future__ import annotations

import time

from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import BreakerConfig, Report
from regrow.health.checks.heartbeats import from_redis
from regrow.health.store import LATEST
from regrow.redis import connect
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import beat, ready, running, worker


def test_worker_and_beat_keep_their_live_state_in_a_cluster(
    surroundings: MakeSurroundings, cluster_url: str, redis_url: str
) -> None:
    around = surroundings(redis_url, cluster_url, CELERY_RESULT_BACKEND=redis_url)
    store = RedisStore.from_url(cluster_url)
    for number in range(6):
        store.apply(f"service-{number}", BreakerConfig(), Report(0, 0, 5, 5))
    with connect(cluster_url) as live, running(worker(around)) as working, running(beat(around)):
        ready(working)
        for kind in ("worker", "beat"):
            eventually(lambda: from_redis(cluster_url, kind, 2.0, time.time()), 30, what=kind)  # noqa: B023
        eventually(lambda: around.job_runs("monitor_circuit_breakers") > 0, 30, what="beat's jobs run")
        eventually(lambda: "redis" in live.hgetall(LATEST), 30, what="results of checks are kept")
        assert live.exists("regrow:{beat}::schedule")

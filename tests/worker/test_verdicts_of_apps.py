"""What the check of workers says of those of other apps: with a heartbeat, and asked without one."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Surroundings, foreign, ready, running
from tests.worker.verdicts import QUICK, Look


@pytest.fixture
def of_app(make_settings, monkeypatch, redis_url):
    """Looks at the workers of another app, on the same broker."""

    def of_app(around: Surroundings, **declared: Any) -> Look:
        settings = make_settings(around.redis_url, CELERY_BROKER_URL=around.broker_url)
        return Look(settings, app="foreign", queues=["foreign"], **declared)

    return of_app


def test_another_apps_worker_has_a_heartbeat_when_it_knows_where_redis_is(
    surroundings: MakeSurroundings, of_app
) -> None:
    around = surroundings(**QUICK)
    with running(foreign(around)) as program:
        ready(program)
        look = of_app(around)
        found = look.until("healthy", "1 alive: foreign@test")
        assert found.data["workers"][0]["state"] == "running"
        told = json.loads(around.traces.get("regrow:{heartbeat}:worker:foreign:foreign@test") or "{}")
        assert (told["app"], told["queues"], told["pool"]) == ("foreign", ["foreign"], 1)
        program.signal(signal.SIGTERM)
        assert program.wait(20) == 0
        assert not around.traces.exists("regrow:{heartbeat}:worker:foreign:foreign@test")


def test_without_a_heartbeat_another_apps_worker_is_asked_and_still_found_wedged(
    surroundings: MakeSurroundings, of_app
) -> None:
    around = surroundings(REGROW_REDIS_URL="")
    with running(foreign(around)) as program:
        ready(program)
        assert of_app(around).now().data["verdict"] == "healthy", "whoever answers"
        look = of_app(around, nodes=["foreign@test", "gone@test"])
        found = look.now()
        assert (found.status, found.data["workers"][1]["verdict"]) == ("degraded", "dead")
        for number in range(3):
            around.send("foreign.sleep", f"bill{number}", queue="foreign")
        wedged = look.until("wedged", "all 1 of its children are busy")
        assert wedged.data["workers"][0]["pong"] is True

"""The verdict over a worker, for every combination of signs there can be."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import pytest

from regrow.health.checks import celery_beat, celery_worker
from regrow.health.checks.heartbeats import Heartbeat
from regrow.health.checks.worker_rules import Judged, Limits, Worker, judge, overall, waiting_for
from regrow.settings.checks import CeleryWorkerCheck

LIMITS = Limits(max_age=30, stuck_after=300, backlog=100)
FRESH, OLD = 1.0, 100.0
TROUBLE = ("r stays in the broker",)

SIGNS = {
    "pong": (True, False, None),
    "heart": ("running", "starting", "draining", "broker_away", "hanging", "silent", "ahead", None),
    "queues": (None, frozenset({"q"}), frozenset()),
    "active": (None, 0, 2),
    "progress": (None, 5.0, 1000.0, math.inf),
    "stalled": (None, 0.0, 1000.0),
    "paused": (frozenset(), frozenset({"r"})),
    "waits": (None, 0, 3, 500),
}


def worker(pong, heart, queues, active, progress, stalled, paused):
    age = {None: None, "hanging": OLD, "silent": OLD, "ahead": -OLD}.get(heart, FRESH)
    silent = {None: None, "silent": OLD, "ahead": None}.get(heart, FRESH)
    state = "running" if heart in {"hanging", "silent", "ahead"} else heart
    pool = None if active is None else 2
    return Worker(
        *("w", pong, state, age, silent, queues, pool, active, 0, progress, stalled),
        troubles=TROUBLE if paused else (),
        paused=paused,
    )


def expected(pong, heart, queues, active, progress, stalled, paused, waits):
    """The table, as a person would write it: the first line that holds."""
    del active
    alive = pong or heart in {"running", "starting", "draining", "broker_away"}
    stuck = waits and stalled == 1000.0
    table = (
        ("unknown", heart is None and pong is None),
        ("dead", heart is None and pong is False),
        ("wedged", heart == "hanging" and not pong),
        ("dead", heart in {"silent", "ahead"} and not pong),
        ("unknown", heart == "broker_away"),
        ("unknown", alive and waits is None),
        ("healthy", heart in {"starting", "draining"}),
        ("healthy", queues == frozenset() and paused),
        ("wedged", queues == frozenset()),
        ("unknown", stuck and progress is None),
        ("wedged", stuck and progress in {1000.0, math.inf}),
        ("saturated", waits == 500),
        ("healthy", True),
    )
    return next(verdict for verdict, holds in table if holds)


def test_every_combination_of_signs_has_the_verdict_of_the_table():
    seen = set()
    for signs in itertools.product(*SIGNS.values()):
        *facts, waits = signs
        told = judge(worker(*facts), waits, LIMITS)
        assert told.verdict == expected(*signs), (dict(zip(SIGNS, signs, strict=True)), told)
        assert told.reason
        seen.add(told.verdict)
        if told.works:
            assert told.verdict in {"healthy", "saturated"}
            assert facts[0] or facts[1] == "running", "nothing is healthy without a sign of life"
        assert told.troubles == (() if told.verdict in {"dead", "unknown"} or not facts[-1] else TROUBLE)
        if told.verdict == "dead":
            assert not facts[0], "who answers is not dead"
    assert seen == {"healthy", "saturated", "wedged", "dead", "unknown"}


def test_a_wedged_pool_and_one_with_room_are_told_apart():
    full = Worker("w", True, "running", 1, 1, None, 2, 2, 3, 400, 350)
    assert judge(full, 3, LIMITS).reason == (
        "all 2 of its children are busy, 3 wait, and no task began or ended for 400 s"
    )
    asked = Worker("w", True, pool=2, active=0, held=0, progress=math.inf, stalled=350)
    assert judge(asked, 3, LIMITS).reason == "3 wait, it has room, and no task began or ended for 350 s"


@pytest.mark.parametrize(
    ("queues", "active", "held", "waits"),
    [
        (None, 2, None, 12 + 3),  # by what anybody has in hand: 5 less the 2 that it runs
        (None, 2, 1, 12 + 1),  # by its own word
        (frozenset({"a"}), 2, 0, 10),
        (frozenset({"other"}), 2, 0, 0),
        (frozenset(), None, None, 5),
    ],
)
def test_what_waits_for_a_worker_is_in_its_queues_and_in_its_hand(queues, active, held, waits):
    asked = Worker("w", queues=queues, active=active, held=held)
    assert waiting_for(asked, {"a": 10, "b": 2, "gone": None}, unacked=5) == waits


HEALTHY = Judged("h", "healthy", "it works", works=True)
SATURATED = Judged("s", "saturated", "it gets on, but 500 wait", works=True)
WAITING = Judged("p", "healthy", "it waits: because", troubles=("because",))
HOLDING = Judged("f", "healthy", "it works", works=True, troubles=("because of the disk",))
STARTING = Judged("n", "healthy", "it is starting", starts=True)
DRAINING = Judged("d", "healthy", "it is draining")
WEDGED, DEAD, UNKNOWN = (Judged(v[0], v, f"because {v}") for v in ("wedged", "dead", "unknown"))


@pytest.mark.parametrize(
    ("judged", "deserted", "status", "verdict"),
    [
        ([], [], "unknown", "unknown"),
        ([HEALTHY, STARTING], ["q"], "unknown", "healthy"),  # it may be the one that takes from it
        ([HEALTHY, STARTING], [], "healthy", "healthy"),
        ([HEALTHY], [], "healthy", "healthy"),
        ([HEALTHY, HEALTHY], [], "healthy", "healthy"),
        ([HEALTHY, DRAINING], [], "healthy", "healthy"),
        ([HEALTHY, SATURATED], [], "degraded", "healthy"),
        ([SATURATED], [], "degraded", "saturated"),
        ([HEALTHY, WEDGED], [], "degraded", "healthy"),
        ([HEALTHY, DEAD], [], "degraded", "healthy"),
        ([HEALTHY, UNKNOWN], [], "degraded", "healthy"),
        ([HEALTHY], ["q"], "unhealthy", "healthy"),
        ([HOLDING], [], "degraded", "healthy"),
        ([HEALTHY, HOLDING], ["q"], "unhealthy", "healthy"),
        ([HEALTHY, WAITING], [], "degraded", "healthy"),
        ([WAITING], [], "degraded", "healthy"),
        ([DRAINING], [], "degraded", "healthy"),
        ([WEDGED], [], "unhealthy", "wedged"),
        ([DEAD], [], "unhealthy", "dead"),
        ([DEAD, WEDGED], [], "unhealthy", "wedged"),
        ([DEAD, DRAINING], [], "unhealthy", "dead"),
        ([UNKNOWN], [], "unknown", "unknown"),
        ([UNKNOWN, DEAD], [], "unknown", "unknown"),
    ],
)
def test_the_verdict_over_all_workers(judged, deserted, status, verdict):
    found = overall(judged, deserted)
    assert (found.status, found.verdict) == (status, verdict)
    for worker in judged:
        if worker in (WEDGED, DEAD, UNKNOWN):
            assert worker.reason in found.message
        assert all(trouble in found.message for trouble in worker.troubles)


def line(node, queues, **told):
    """The heartbeat of a worker that lives and has nothing to do."""
    idle = {"at": 1000.0, "seen": 1000.0, "pool": 2, "active": 0, "held": 0, "began": 1000.0}
    return Heartbeat(node, "running", FRESH, frozenset(queues), {**idle, **told})


PAUSED = {"troubles": ["the database is away"], "paused": ["captures"]}
FULL = {"troubles": ["the disk is full"]}


@pytest.mark.parametrize(
    ("beats", "status", "said"),
    [
        ([line("w", ["captures", "control"])], "healthy", "1 alive: w"),
        ([line("w", ["captures", "control"], **FULL)], "degraded", "1 of 1 work; w waits: the disk is full"),
        ([line("w", ["control"], **PAUSED)], "degraded", "1 of 1 work; w waits: the database is away"),
        ([line("w", [], **PAUSED)], "degraded", "alive, but w: it waits: the database is away"),
        (
            [line("c", ["control"]), line("w", [], **PAUSED)],
            "degraded",
            "1 of 2 work; w waits: the database is away",
        ),
        ([line("w", ["control"], **FULL)], "unhealthy", "no worker takes from captures; "),
        (
            [line("c", ["control"]), replace(line("w", [], **PAUSED), age=OLD)],
            "unhealthy",
            "no worker takes from captures; ",
        ),
    ],
)
def test_a_worker_that_waits_on_purpose_makes_the_check_degraded_and_deserts_no_queue(beats, status, said):
    check = CeleryWorkerCheck(kind="celery_worker", queues=["captures", "control"])
    workers = [celery_worker._worker(beat.node, beats, celery_worker.Asked(), now=1001.0) for beat in beats]
    found = celery_worker.verdict(check, workers, {beat.node: 0 for beat in beats}, None)
    assert (found.status, found.message[: len(said)]) == (status, said)
    json.dumps(found.data)


def beat(age=1.0, silent=1.0, state="running", **told):
    at = 1000.0
    line = {"at": at, "seen": at + age - silent, **{name: at + age - ago for name, ago in told.items()}}
    return Heartbeat("beat@h", state, age, None, {**line, "every": 10.0})


@pytest.mark.parametrize(
    ("found", "status", "verdict"),
    [
        ([], "unknown", "unknown"),
        ([beat(sent_at=5)], "healthy", "ticking"),
        ([beat()], "healthy", "ticking"),  # it says nothing of what it sends, and is believed
        ([beat(state="standby")], "degraded", "ticking"),
        ([beat(sent_at=61)], "unhealthy", "stalled"),
        ([beat(sent_at=500, leads_since=3)], "healthy", "ticking"),
        ([beat(sent_at=61), beat(sent_at=2)], "healthy", "ticking"),
        ([beat(age=61, silent=1)], "unhealthy", "stalled"),
        ([beat(age=61, silent=61)], "unhealthy", "dead"),
        ([beat(age=61, silent=61), beat(state="standby")], "degraded", "ticking"),
        ([Heartbeat("beat@h", "running", 61.0)], "unhealthy", "dead"),  # an older release: nothing is told
    ],
)
def test_a_beat_ticks_is_stalled_or_dead(found, status, verdict):
    told = celery_beat.verdict(found, max_age=60)
    assert (told.status, told.data["verdict"]) == (status, verdict), told

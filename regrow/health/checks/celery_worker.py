"""Celery workers: heartbeats, a ping of named nodes, what waits and what is in hand; ``worker_rules`` decide.

A broadcast to all would cost a second and be green on a wedged pool. The ping is for named nodes and waits
no longer than until they have answered; nodes without a heartbeat are asked what their pool does, too, as
soon as anything waits.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from regrow.health.checks import broker, heartbeats, since, worker_rules
from regrow.health.checks.broker import BrokerAwayError, Told
from regrow.health.checks.heartbeats import Heartbeat
from regrow.health.checks.worker_rules import Limits, Worker
from regrow.health.rules import Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import CeleryWorkerCheck
from regrow.settings.checks.celery import OWN_APP

if TYPE_CHECKING:
    from regrow.celery.asking import Work

_PONG = 1.0
"""Seconds that nodes have to answer."""


@dataclass(frozen=True)
class Asked:
    """``pongs``: nodes that answered, None when nobody could be asked; ``work``: what those say they do."""

    pongs: frozenset[str] | None = None
    work: Mapping[str, Work] | None = None
    trouble: str | None = None


def probe(check: CeleryWorkerCheck, settings: Settings) -> Finding:
    return _found(check, settings, lasting=True)


def look(check: CeleryWorkerCheck, settings: Settings) -> Finding:
    """As :func:`probe`, for who passes by: nobody is pinged, and nothing is remembered for the next one."""
    return _found(check.model_copy(update={"ping": False}), settings, lasting=False)


def _found(check: CeleryWorkerCheck, settings: Settings, *, lasting: bool) -> Finding:
    url = settings.redis.url.get_secret_value()
    now = time.time()
    return heartbeats.asked(
        lambda: heartbeats.from_redis(url, "worker", check.timeout / 2, now),
        lambda found: _looked(
            check, settings, [beat for beat in found if beat.app == check.app], now, lasting=lasting
        ),
    )


def _looked(
    check: CeleryWorkerCheck,
    settings: Settings,
    beats: Sequence[Heartbeat],
    now: float,
    *,
    lasting: bool,
) -> Finding:
    told, trouble = _queues(check, settings)
    asked = Asked()
    if check.ping and told is not None:
        asked = _asked(check, settings, beats, told)
    workers = [_worker(node, beats, asked, now) for node in _nodes(check, beats, asked)]
    waits = {worker.node: _waits(worker, told) for worker in workers}
    stalled = _stalled(check, settings, workers, waits, now, lasting=lasting)
    known = [replace(worker, stalled=stalled.get(worker.node)) for worker in workers]
    return verdict(check, known, waits, told, trouble or asked.trouble)


def verdict(
    check: CeleryWorkerCheck,
    workers: Sequence[Worker],
    waits: Mapping[str, int | None],
    told: Told | None,
    trouble: str | None = None,
) -> Finding:
    """The finding over all workers of the app, each with its evidence in the data."""
    limits = Limits(check.max_age, check.stuck_after, check.backlog)
    judged = [worker_rules.judge(worker, waits.get(worker.node), limits) for worker in workers]
    working = [worker for worker, one in zip(workers, judged, strict=True) if one.works]
    well = [
        worker for worker, one in zip(workers, judged, strict=True) if one.verdict in {"healthy", "saturated"}
    ]
    found = worker_rules.overall(judged, _deserted(check.queues, working, well))
    evidence = [
        {**_shown(worker), "waits": waits.get(worker.node), "verdict": one.verdict, "reason": one.reason}
        for worker, one in zip(workers, judged, strict=True)
    ]
    data: dict[str, Any] = {
        "verdict": found.verdict,
        "workers": evidence,
        "waiting": dict(told.waiting) if told else None,
        "unacked": told.unacked if told else None,
    }
    said = f"{found.message}; {trouble}" if trouble else found.message
    return finding(found.status, said, **data)


def _queues(check: CeleryWorkerCheck, settings: Settings) -> tuple[Told | None, str | None]:
    key = broker.unacked_key(settings, check.broker, check.unacked_key)
    if check.app != OWN_APP and check.unacked_key is None:
        key = broker.UNACKED
    try:
        url = settings.broker_url(check.broker)
        return broker.ask(url, check.queues, key, check.timeout / 2, prefix=check.key_prefix), None
    except BrokerAwayError as error:
        return None, f"the broker does not answer: {error}"


def _asked(check: CeleryWorkerCheck, settings: Settings, beats: Sequence[Heartbeat], told: Told) -> Asked:
    """Ping the nodes that are known; without any, whoever is there. Those without a heartbeat tell more."""
    from kombu.exceptions import KombuError

    from regrow.celery import asking

    own = check.app == OWN_APP
    exchange = check.control_exchange or (asking.OWN_EXCHANGE if own else "celery")
    known = {beat.node for beat in beats} | set(check.nodes)
    if own and not known:
        return Asked()  # our own workers have heartbeats; to look for others would take a whole second
    bound = min(_PONG, check.timeout / 4)
    try:
        with asking.asking(settings.broker_url(check.broker), exchange, check.timeout / 4) as asker:
            pongs = asker.ping(known, bound) if known else asker.found(bound)
            mute = pongs - {beat.node for beat in beats if "pool" in beat.told}
            work = asker.work(mute, bound) if told.depth else {}
    except (KombuError, OSError) as error:
        return Asked(trouble=f"nobody could be pinged: {type(error).__name__}")
    return Asked(frozenset(pongs), work)


def _nodes(check: CeleryWorkerCheck, beats: Sequence[Heartbeat], asked: Asked) -> list[str]:
    return sorted({beat.node for beat in beats} | set(check.nodes) | set(asked.pongs or ()))


def _worker(node: str, beats: Sequence[Heartbeat], asked: Asked, now: float) -> Worker:
    """What is known of one node; of several processes of that name the one heard of last."""
    pong = None if asked.pongs is None else node in asked.pongs
    beat = min((beat for beat in beats if beat.node == node), key=lambda beat: abs(beat.age), default=None)
    if beat is not None and "pool" in beat.told:
        return _of_heartbeat(beat, pong)
    work = (asked.work or {}).get(node)
    return Worker(
        node=node,
        pong=pong,
        state=beat.state if beat else None,
        age=beat.age if beat else None,
        silent=beat.silent if beat else None,
        queues=beat.queues if beat else None,
        pool=work.pool if work else None,
        active=work.active if work else None,
        held=work.held if work else None,
        # A node that was asked tells nothing of its last end; what changes between two probes is seen.
        progress=max(0.0, now - work.begun_at) if work and work.begun_at else float("inf") if work else None,
        done=work.done if work else None,
    )


def _of_heartbeat(beat: Heartbeat, pong: bool | None) -> Worker:
    moves = [ago for name in ("done_at", "begun_at", "began") if (ago := beat.ago(name)) is not None]
    return Worker(
        node=beat.node,
        pong=pong,
        state=beat.state,
        age=beat.age,
        silent=beat.silent,
        queues=beat.queues,
        pool=_whole(beat.number("pool")),
        active=_whole(beat.number("active")),
        held=_whole(beat.number("held")),
        progress=min(moves, default=None),
        done=_whole(beat.number("done")),
        troubles=tuple(beat.troubles),
        paused=beat.paused,
    )


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _waits(worker: Worker, told: Told | None) -> int | None:
    return None if told is None else worker_rules.waiting_for(worker, told.waiting, told.unacked)


def _stalled(
    check: CeleryWorkerCheck,
    settings: Settings,
    workers: Sequence[Worker],
    waits: Mapping[str, int | None],
    now: float,
    *,
    lasting: bool,
) -> dict[str, float]:
    """For how long work has been seen waiting for each worker while no task of it ended."""
    marks = {
        worker.node: None if worker.done is None else str(worker.done)
        for worker in workers
        if waits.get(worker.node)
    }
    url, name = settings.redis.url.get_secret_value(), f"worker:{check.app}:{','.join(check.queues)}"
    return since.remembered(url, name, marks, now, check.timeout / 2, lasting=lasting)


def _deserted(queues: Collection[str], working: Sequence[Worker], well: Sequence[Worker]) -> list[str]:
    """The queues that none takes from, nor leaves alone on purpose. One that does not say takes from all."""
    if not working or any(worker.queues is None for worker in working):
        return []
    taken = {name for worker in working for name in worker.queues or ()}
    paused = {name for worker in well for name in worker.paused}
    return [name for name in queues if name not in taken | paused]


def _shown(worker: Worker) -> dict[str, Any]:
    """The evidence in JSON values; ages with one digit, and none that is endless."""
    told = asdict(worker)
    told["queues"] = None if worker.queues is None else sorted(worker.queues)
    told["paused"] = sorted(worker.paused)
    for name in ("age", "silent", "progress", "stalled"):
        value = told[name]
        told[name] = None if value is None or value == float("inf") else round(value, 1)
    return told

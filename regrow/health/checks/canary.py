"""Canary: a tiny task through each queue, and how long it took until a worker ran it.

Each run reads what became of the last one and sends the next: beat, broker, worker and result are all on its
way. Only one is on its way for a queue, and it expires when it counts as lost, so that nothing piles up. Its
message is sent as a letter goes home: nothing is declared, because the queue may be another app's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from regrow.errors import RouteError, StoreUnavailableError
from regrow.health.checks import canaries
from regrow.health.checks.canaries import Flight
from regrow.health.checks.conditions import Remark, concluded
from regrow.health.rules import Finding, finding, judge, stale_after
from regrow.settings import Settings
from regrow.settings.checks import CanaryCheck

_SILENT = "Redis, which keeps the answers, does not answer"


def probe(check: CanaryCheck, settings: Settings) -> Finding:
    import redis

    from regrow.health.checks.redis_client import asking

    flights: dict[str, Flight | str] = {}
    try:
        with asking(settings.redis.url.get_secret_value(), check.timeout) as client:
            for queue in check.queues:
                number = str(uuid.uuid4())
                flight = canaries.begin(client, check.broker, queue, number, check.critical)
                flights[queue] = flight
                bound = canaries.patience(check.critical, flight.lost)
                refused = _sent(check, settings, queue, number, bound) if flight.begun else None
                if refused:
                    canaries.withdraw(client, check.broker, queue)
                    flights[queue] = refused
    except (redis.RedisError, OSError) as error:
        return finding("unknown", f"{_SILENT}: {type(error).__name__}: {error}")
    return verdict(check, flights)


def look(check: CanaryCheck, settings: Settings) -> Finding:
    """What became of the last canaries, for who passes by: none is sent."""
    import redis

    from regrow.health.checks.redis_client import asking

    try:
        with asking(settings.redis.url.get_secret_value(), check.timeout) as client:
            flights = {
                queue: canaries.seen(client, check.broker, queue, check.critical) for queue in check.queues
            }
    except (redis.RedisError, OSError) as error:
        return finding("unknown", f"{_SILENT}: {type(error).__name__}: {error}")
    limit = stale_after(check.interval or settings.health.interval, check.timeout)
    if old := [queue for queue, flight in flights.items() if _is_old(flight, limit)]:
        said = f"no canary came back within {limit:g} s, and none is on its way: {', '.join(old)}"
        return finding("unknown", said, queues={queue: _shown(flight) for queue, flight in flights.items()})
    found = verdict(check, flights)
    return replace(found, message=f"{found.message}; none was sent from here")


def _is_old(flight: Flight, limit: float) -> bool:
    """Whether the last answer says nothing any more, because nobody has sent another one."""
    unanswered = flight.waiting is not None or flight.lost > 0
    return not unanswered and (flight.age is None or flight.age > limit)


def verdict(check: CanaryCheck, flights: Mapping[str, Flight | str]) -> Finding:
    """``flights``: by queue, what became of its canary, or why none could be sent."""
    remarks = {queue: _remark(check, queue, flight) for queue, flight in flights.items()}
    latencies = [
        flight.latency for flight in flights.values() if isinstance(flight, Flight) and flight.latency
    ]
    said = f"at most {max(latencies):.2f} s from beat to answer" if latencies else "canaries are sent"
    return concluded(said, remarks.values(), queues={queue: _shown(f) for queue, f in flights.items()})


def _remark(check: CanaryCheck, queue: str, flight: Flight | str) -> Remark:
    if isinstance(flight, str):
        return Remark("unhealthy", f"{queue}: could not be sent: {flight}")
    waiting = flight.waiting or 0.0
    if gone := flight.lost + (waiting >= check.critical):
        lost = "the last one was" if gone == 1 else f"the last {gone} were"
        return Remark("unhealthy", f"{queue}: {lost} lost: not run within {check.critical:g} s")
    if flight.latency is None and waiting < check.warning:
        return Remark("unknown", f"{queue}: sent, and no answer yet")
    if waiting >= check.warning:
        return Remark("degraded", f"{queue}: late, on its way for {waiting:.0f} s")
    took = flight.latency or 0.0
    status = judge(took, check.warning, check.critical)
    return Remark(status, f"{queue}: {'late, ' if status != 'healthy' else ''}it took {took:.2f} s")


def _shown(flight: Flight | str) -> dict[str, Any]:
    if isinstance(flight, str):
        return {"error": flight}
    told = {"waiting": flight.waiting, "latency": flight.latency, "age": flight.age}
    return {
        "lost": flight.lost,
        **{name: None if value is None else round(value, 3) for name, value in told.items()},
    }


def _sent(check: CanaryCheck, settings: Settings, queue: str, number: str, bound: float) -> str | None:
    """Why the broker did not take it; None when it did. ``bound``: seconds after which it expires."""
    from regrow.celery import canary

    try:
        canary.send(settings.broker_url(check.broker), check.broker, queue, number, bound)
    except (RouteError, StoreUnavailableError) as error:
        return str(error)
    return None

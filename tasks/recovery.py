"""Recovery: the look at what is down, tests of what is behind open breakers, and the attempts themselves."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from regrow.engine import get_engine
from regrow.jobs import record
from regrow.recovery import service as recovery


@shared_task(name="regrow.recovery.recover_services")
def recover_services() -> None:
    """See which services are down and send what is due; leaves a job run only when something changed."""
    engine = get_engine()
    with record(engine, "recover_services") as run:
        run.summary = recovery.start_recoveries(engine)
        run.silent = not run.summary["changed"] and not run.summary["begun"]


@shared_task(name="regrow.recovery.probe_open_services")
def probe_open_services() -> None:
    """Test what is behind open breakers, and reset what passes; a job run only for what came back."""
    engine = get_engine()
    with record(engine, "probe_open_services") as run:
        run.summary = recovery.probe_open_services(engine)
        run.silent = not run.summary["recovered"]


@shared_task(name="regrow.recovery.recover_service", ignore_result=False)
def recover_service(service: str) -> dict[str, Any]:
    """Make the attempt that is due for one service; nothing, when it is due no more."""
    return recovery.attempt(get_engine(), service)


@shared_task(name="regrow.recovery.watch_trends")
def watch_trends() -> None:
    """Look for latency and failure rates that will soon be too high."""
    engine = get_engine()
    with record(engine, "watch_trends") as run:
        run.summary = recovery.watch_trends(engine)

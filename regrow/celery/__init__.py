"""What an app, or Regrow's own worker, adds to Celery::

    app = Celery(...)
    regrow.celery.install(app)

Then every task of the app that fails for good, and every message that no task can take, becomes a dead
letter, and redriven letters settle when their task ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import signals
from celery.utils.imports import symbol_by_name

from regrow.celery import canary
from regrow.celery.breakers import BreakerAwareTask, breaker_aware
from regrow.celery.capturing import Capturer, Classify, Sink
from regrow.celery.consumer import PoisonGuard
from regrow.celery.messages import Failure, RawMessage
from regrow.celery.origin import AppFacts
from regrow.celery.sender import CelerySender
from regrow.celery.sinks import BrokerSink, SpoolSink, StoreSink
from regrow.celery.tracing import keep_causes
from regrow.errors import RegrowError
from regrow.headers import SENT_AT

__all__ = [
    "BreakerAwareTask",
    "BrokerSink",
    "CelerySender",
    "Failure",
    "RawMessage",
    "Sink",
    "SpoolSink",
    "StoreSink",
    "TooLateError",
    "breaker_aware",
    "install",
]


class TooLateError(RegrowError):
    """regrow.celery.install(app) came after the app's first connection; call it where the app is made."""


def install(
    app: Any,
    *,
    spool: str | Path | None = None,
    sink: Sink | None = None,
    deliveries: Callable[[str], int] | None = None,
    home: Path | None = None,
    broker: str | None = None,
    code_version: str | None = None,
    classify: Classify | None = None,
    capture_expired: bool = False,
    capture_revoked: bool = False,
    heartbeat: bool = True,
    canary_answer: canary.Answer | None = None,
) -> None:
    """Capture what fails for good in the workers of ``app``. A second call changes nothing.

    ``spool``: a folder on a local disk that outlives the container (``$REGROW_SPOOL``). Failures are kept
    there, fsynced, before their messages are acknowledged, and shipped from there until the database has
    them; a broker that is away holds up nothing. Without it they are published before the acknowledgement.
    ``sink``: where failures go; by default to Regrow's workers, as tasks, through the app's own broker.
    ``deliveries`` counts redeliveries (see :class:`PoisonGuard`). ``home``: the state folder, by default
    ``$REGROW_HOME`` or ``var``; failures that the sink refuses become files in its folder ``unfiled``.
    ``broker``: the name by which Regrow knows this app's broker (``$REGROW_BROKER``). ``code_version``: of
    the app (``$REGROW_CODE_VERSION``). Both are kept with each letter.
    ``classify``: a function of the exception that says what kind of failure it is (transient, rate_limited,
    dependency_down, breaker_refused, permanent, poison, unknown), or None to leave it to the registry.
    ``capture_expired``: tasks that expired before they ran become letters. ``capture_revoked``: so do those
    that were revoked or terminated, in quarantine. ``heartbeat``: the app's workers tell in Regrow's Redis,
    when that is known (``regrow.configure(redis_url=...)`` or ``$REGROW_REDIS_URL``), that they live and get
    on, for checks of kind ``celery_worker``. Each task says when it was sent, for the age of queues.
    ``canary_answer``: how a canary's task answers; by default in that Redis, else through the broker.

    TooLateError: the app has connected already; its consumer and requests are then made. SettingsError: the
    spool's folder cannot be used.
    """
    current = symbol_by_name(app.conf.worker_consumer)
    if issubclass(current, PoisonGuard):
        return
    if app._pool is not None:  # noqa: SLF001 - Celery tells nobody else whether it has connected
        raise TooLateError
    # A pool child ends without exit handlers; what it knows of the app's breakers goes out before.
    signals.worker_process_shutdown.connect(_flush_breakers, weak=False)
    signals.worker_process_init.connect(lambda **_: keep_causes(app), weak=False)
    signals.before_task_publish.connect(_tell_when_sent, weak=False, dispatch_uid="regrow-sent")
    canary.register(app, canary_answer)
    if heartbeat:
        from regrow.celery.heartbeat import AppHeartbeat

        app.steps["worker"].add(AppHeartbeat)
    folder = home or Path(os.environ.get("REGROW_HOME") or "var")
    kept_in = sink or BrokerSink(CelerySender.beside(app))
    if spool := spool or os.environ.get("REGROW_SPOOL"):
        kept_in = SpoolSink(kept_in, Path(spool))
        signals.worker_shutdown.connect(lambda **_: kept_in.close(), weak=False)
    app.conf.worker_consumer = type(
        f"Guarded{current.__name__}",
        (PoisonGuard, current),
        {
            "regrow_capturer": Capturer(kept_in, folder, classify=classify),
            "regrow_deliveries": staticmethod(deliveries) if deliveries else None,
            "regrow_facts": AppFacts(
                broker or os.environ.get("REGROW_BROKER"),
                code_version or os.environ.get("REGROW_CODE_VERSION"),
                expired=capture_expired,
                revoked=capture_revoked,
            ),
        },
    )


def _tell_when_sent(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """A message of Celery's does not say how long it has waited; this one does, also after a redelivery."""
    if headers is not None:
        headers[SENT_AT] = round(time.time(), 3)


def _flush_breakers(**_: Any) -> None:
    from regrow import breakers

    breakers.flush()

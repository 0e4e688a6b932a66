"""Regrow's own Celery app: ``celery -A worker worker`` and ``celery -A worker beat`` find it here.

Order matters: the transports are guarded before the app exists, because a connection keeps the class it was
made with. Nothing is connected here.
"""

from __future__ import annotations

import pkgutil
from typing import Any

import celery

import tasks
from regrow.celery import CelerySender, StoreSink, install, redeliveries
from regrow.engine import Engine, get_engine
from regrow.health.checks import canaries
from worker import lifecycle, transport
from worker.configuration import configuration
from worker.dead_letter_queues import DeadLetterQueues
from worker.deliveries import LeaseRenewal
from worker.expiry import ExpiryCount
from worker.heartbeat import WorkerHeartbeat
from worker.store_pause import StorePause

__all__ = ["app", "make_app"]  # noqa: F822 - made on demand, below


class Task(celery.Task):  # type: ignore[type-arg] # generic in the stubs alone
    """What every task of ours starts from."""

    default_retry_delay = 5
    """Seconds before a task whose child was killed runs again (Celery's own default is 180)."""


def make_app(engine: Engine) -> celery.Celery[Any]:
    """The app with all its guards, configured, not yet connected; it becomes the engine's sender."""
    transport.install()
    lifecycle.install()
    app = celery.Celery("regrow", task_cls=Task, set_as_current=True)
    app.conf.update(configuration(engine.settings))
    app.conf.imports = tuple(f"tasks.{module.name}" for module in pkgutil.iter_modules(tasks.__path__))
    app.steps["worker"].update({WorkerHeartbeat, lifecycle.Drain, ExpiryCount, DeadLetterQueues})
    app.steps["consumer"].update({LeaseRenewal, StorePause})
    install(
        app,
        sink=StoreSink(engine),
        deliveries=lambda message: redeliveries.count(engine.redis, message),
        home=engine.settings.home,
        canary_answer=lambda *flight: canaries.answer(engine.redis, *flight),
        heartbeat=False,  # WorkerHeartbeat is one, with a file and a watchdog beside
    )
    engine.sender = CelerySender(app)
    return app


def __getattr__(name: str) -> Any:
    """``app`` is made when it is asked for, so that importing this module needs no settings."""
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = made = make_app(get_engine())
    return made

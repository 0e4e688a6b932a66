"""How a worker begins and ends: the start-up gate, logs, what a fork must let go of, the drain.

SIGTERM drains: no new messages are taken, the tasks in hand run to their end, the process exits 0. When
``SHUTDOWN_TIMEOUT`` is over, what still runs is put back into its queue and ended. Celery's own soft
shutdown sleeps its whole timeout even if nothing is left to do, and exits 1; a drain ends with its last
task.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

import structlog
from billiard.process import current_process
from celery import bootsteps, signals
from celery.worker import state

from regrow import drain
from regrow.breakers.history import declare
from regrow.configuration import configure
from regrow.dead_letters import service as dead_letters
from regrow.dead_letters.routes import unloadable
from regrow.dependencies import wait_for_dependencies
from regrow.drain import record
from regrow.drain.record import Course
from regrow.engine import get_engine
from regrow.errors import RegrowError
from regrow.logs import configure_logging
from worker.heartbeat import Watchdog

log = structlog.get_logger(__name__)

NOT_STARTED_EXIT = 69  # EX_UNAVAILABLE
_PR_SET_PDEATHSIG = 1
LAST_GRACE = 10.0
"""Seconds after the cold shutdown was asked for until the process is simply ended."""


def install() -> None:
    """Connect the signals. Receivers are kept for the life of the process."""
    signals.setup_logging.connect(set_up_logging, weak=False)
    signals.celeryd_init.connect(open_gate, weak=False)
    signals.celeryd_init.connect(load_handlers, weak=False)
    signals.worker_ready.connect(tell_settings, weak=False)
    signals.worker_process_init.connect(die_with_parent, weak=False)
    signals.task_prerun.connect(take_up_settings, weak=False)
    signals.worker_process_shutdown.connect(let_go, weak=False)


def set_up_logging(**_: Any) -> None:
    """In place of Celery's own logging: a receiver of this signal is all it takes."""
    settings = get_engine().settings
    configure_logging(settings.log.level, settings.log.format, production=settings.profile == "production")


def open_gate(**_: Any) -> None:
    """Wait for what we cannot do without. SystemExit, because Celery swallows errors of receivers."""
    set_up_logging()
    try:
        wait_for_dependencies(get_engine())
        dead_letters.prove_keys(get_engine())
    except RegrowError as error:
        log.critical("startup.failed", error=str(error))
        sys.exit(NOT_STARTED_EXIT)


def load_handlers(**_: Any) -> None:
    """Import what the routes name, once, before any child is forked; a slip ends the start, not a letter."""
    slips = list(unloadable(get_engine().settings))
    if slips:
        log.critical("startup.failed", error="; ".join(slips))
        sys.exit(NOT_STARTED_EXIT)


def tell_settings(**_: Any) -> None:
    """Applications hear of the breakers' settings with the worker that brings them, not minutes later."""
    try:
        declare(get_engine())
    except RegrowError as error:
        log.warning("breakers.undeclared: the monitor does it later", error=str(error))


def take_up_settings(**_: Any) -> None:
    """A changed regrow.toml holds from the next task on, in whichever child that is."""
    get_engine().refresh()


def die_with_parent(**_: Any) -> None:
    """A child of a main process that was killed must not go on with a task that is delivered again.

    Celery asks for the same, but goes without when it cannot load the C library its way, and does not see a
    parent that died before it asked. (Stores that were open before the fork are let go of by the engine.)
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    process: Any = current_process()
    if os.getppid() != process._parent_pid:  # noqa: SLF001
        os._exit(1)


def let_go(**_: Any) -> None:
    """A child that is replaced ends without exit handlers: what it knows of breakers goes out now."""
    get_engine().close()


class Drain(bootsteps.StartStopStep):
    """Worker step: watches the limit of a drain, in the watchdog's thread, and tells of its course."""

    requires = ("worker.heartbeat:WorkerHeartbeat",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._asked_at: float | None = None
        self._course: Course | None = None
        self._forced_at: float | None = None

    def start(self, worker: Any) -> None:
        self._app = worker.app
        self._node = worker.hostname
        configure(redis_url=get_engine().settings.redis.url.get_secret_value())  # where its course is told
        self._limit = get_engine().settings.shutdown.timeout
        self._watchdog: Watchdog = worker.regrow_watchdog
        self._watchdog.duties.append(self._look)
        signals.worker_shutting_down.connect(self._asked, weak=False)
        signals.worker_shutdown.connect(self._finished, sender=worker, weak=False)

    def _asked(self, **_: Any) -> None:
        """Runs inside the signal handler: only note it; the watchdog's thread does the rest."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            # The loop ends here on purpose; from now on this limit is what guards the process.
            self._watchdog.watching = False

    def _finished(self, **_: Any) -> None:
        """Everything has stopped; what still ran is back in its queue."""
        if self._asked_at is not None and self._forced_at is None:
            log.info("drain.finished", seconds=round(time.monotonic() - self._asked_at, 1))
        drain.this_process().clean_up()
        if self._course is not None and self._forced_at is None:
            record.keep_now(self._course.over(in_hand=0, at=time.time()))

    def _look(self) -> None:
        if self._asked_at is None:
            return
        self._watchdog.heart.beat("draining")
        if self._course is None:
            in_hand = len(state.active_requests)
            self._course = Course(
                *("worker", self._node, os.getpid(), "signal", time.time(), self._limit, in_hand, in_hand)
            )
            log.info("drain.started", limit=self._limit, in_hand=in_hand)
            record.keep_soon(self._course)
        waited = time.monotonic() - self._asked_at
        if self._forced_at is None and waited > self._limit:
            self._force()
        elif self._forced_at is not None and time.monotonic() - self._forced_at > LAST_GRACE:
            log.critical("drain.abandoned", remedy="what is still running is delivered again")
            os._exit(1)

    def _force(self) -> None:
        self._forced_at = time.monotonic()
        left = len(state.active_requests)
        log.warning(
            "drain.timed_out",
            limit=self._limit,
            in_hand=left,
            remedy="what still runs goes back into its queue",
        )
        self._app.conf.worker_soft_shutdown_timeout = 0
        os.kill(os.getpid(), signal.SIGQUIT)
        if self._course is not None:
            # Told now: a cold shutdown may end without coming by again.
            record.keep_now(self._course.over(in_hand=left, at=time.time()))
        drain.this_process().clean_up()

"""The heartbeat of a worker or a beat, and the watchdog that ends a process whose heart stands still.

The pulse is given by the process's own loop, so it stops when the loop does. A broker that is away is not a
frozen loop: the consumer gives the pulse while it waits, with the state ``broker_away``.

File format, for container health checks: ``<home>/run/worker.heartbeat`` and ``<home>/run/beat.heartbeat``
hold one line of JSON, ``{"at": epoch seconds, "pid": int, "node": str, "state": str}`` and what
:mod:`regrow.health.checks.heartbeats` lists beside, replaced whole at each pulse (every 5 s or less); the
file's mtime is the time of the last pulse. Judge the mtime alone::

    python -I -S -c "import os,sys,time; sys.exit(time.time() - os.stat(sys.argv[1]).st_mtime > 30)" FILE

States: ``starting``, ``running``, ``broker_away``, ``draining``; of a beat also ``standby`` (another one has
the lock) and ``redis_away``. A process that ends in order removes file and key.

The same line is kept in Redis under ``regrow:{heartbeat}:<kind>:<name>`` for ten minutes, written by the
watchdog's thread: a Redis that is slow must not hold up the loop. The thread says with it when it did so: a
loop that stands still is told from a process that is gone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import structlog
from celery import bootsteps, signals

from regrow.celery.heartbeat import Progress
from regrow.engine import get_engine
from regrow.health.checks import heartbeats
from regrow.settings import Settings

log = structlog.get_logger(__name__)

FROZEN_EXIT = 70  # EX_SOFTWARE
PULSE = 5.0
"""Seconds between two pulses, and two publications, at most; six fit into the watchdog's limit."""


Facts = Callable[[float], Mapping[str, Any]]
"""What the process says of its work, in JSON values; takes the time in epoch seconds."""


@dataclass(frozen=True)
class Beat:
    """One beat of the heart: when (epoch seconds), whose, and what the process was doing."""

    at: float
    pid: int
    node: str
    state: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        told = {"at": round(self.at, 3), "pid": self.pid, "node": self.node, "state": self.state}
        return {**told, **self.facts}


class Heart:
    """Where one process leaves its pulse: a file for its container, a key for everybody."""

    def __init__(self, file: Path, kind: str, name: str, node: str, facts: Facts = lambda _: {}) -> None:
        """``kind``: worker or beat; ``name``: what tells it from others of its kind."""
        self.file = file
        self.kind = kind
        self.name = name
        self.node = node
        self.pulses = 0
        self._facts = facts
        self.troubles: list[Callable[[], str | None]] = []
        """Asked at every pulse: for what a part of the process waits, or None."""
        self.paused: Callable[[], Sequence[str]] = tuple
        """Asked at every pulse: the queues that are left alone on purpose."""
        self.last = Beat(time.time(), os.getpid(), node, "starting")

    def beat(self, state: str) -> None:
        """Called by the loop, and by nothing else: whoever calls this says "the loop turns"."""
        if state != self.last.state:
            log.info("heartbeat.state", state=state, was=self.last.state, node=self.node)
        now = time.time()
        facts = dict(self._facts(now))
        if troubles := [told for trouble in self.troubles if (told := trouble())]:
            facts["troubles"] = troubles
        if paused := list(self.paused()):
            facts["paused"] = paused
        self.last = Beat(now, os.getpid(), self.node, state, facts)
        self.pulses += 1
        try:
            self._write()
        except OSError as error:
            # A full disk must not end the worker; the check that reads the file will say it is old.
            log.warning("heartbeat.not_written", file=str(self.file), error=str(error))

    def _write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_name(f".{self.file.name}.{self.last.pid}")
        fresh.write_text(json.dumps(self.last.told()) + "\n", encoding="utf-8")
        fresh.replace(self.file)

    def publish(self, client: redis.Redis) -> None:
        heartbeats.keep(client, self.kind, self.name, self.last.told(), time.time())

    def stop(self, client: redis.Redis) -> None:
        """The process ends in order: nobody shall miss it."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
        with contextlib.suppress(redis.RedisError):
            heartbeats.withdraw(client, self.kind, self.name)


class Patience:
    """How long a pulse has been missing, counted in glances rather than by the clock.

    A process that was stopped (SIGSTOP, a paused container, a laptop asleep) was not looked at either, and
    one long gap between two glances counts as one glance.
    """

    def __init__(self, limit: float, glance: float) -> None:
        self.limit = limit
        self.glance = glance
        self.missing = 0.0
        self._seen = -1

    def exhausted(self, pulses: int) -> bool:
        if pulses != self._seen:
            self._seen, self.missing = pulses, 0.0
        else:
            self.missing += self.glance
        return self.missing >= self.limit


class Watchdog(threading.Thread):
    """Looks at a heart every second: publishes its pulse, and ends the process when it stands still."""

    GLANCE = 1.0

    def __init__(
        self,
        heart: Heart,
        settings: Settings,
        client: Callable[[], redis.Redis],
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        super().__init__(name="regrow-watchdog", daemon=True)
        self.heart = heart
        self._client = client
        self.patience = Patience(settings.celery.watchdog_timeout, self.GLANCE)
        self.every = min(PULSE, settings.celery.watchdog_timeout / 6)
        self.duties: list[Callable[[], None]] = []
        """Called at every glance, in order; used by the drain."""
        self.watching = True
        self._end = end
        self._published_at = float("-inf")
        self._published = ""
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self.GLANCE):
            if self.watching and self.patience.exhausted(self.heart.pulses):
                self._give_up()
            for duty in self.duties:
                duty()
            self._publish()

    def stop(self) -> None:
        self._stopped.set()
        if self.is_alive() and self is not threading.current_thread():
            self.join(5)
        self.heart.stop(self._client())

    def _publish(self) -> None:
        state = self.heart.last.state
        if state == self._published and time.monotonic() - self._published_at < self.every:
            return
        # A new state at once: a check that looks right after a start shall not find the queues deserted.
        self._published, self._published_at = state, time.monotonic()
        try:
            self.heart.publish(self._client())
        except redis.RedisError as error:
            log.debug("heartbeat.not_published", error=str(error))

    def _give_up(self) -> None:
        log.critical(
            "heartbeat.frozen",
            node=self.heart.node,
            seconds=round(self.patience.missing),
            last_state=self.heart.last.state,
            remedy="ending this process, its supervisor starts a new one; the threads' stacks follow",
        )
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
        self._end(FROZEN_EXIT)


def watch(kind: str, name: str, node: str, settings: Settings, facts: Facts) -> tuple[Heart, Watchdog]:
    """A beating heart and its watchdog, started. ``kind``: worker or beat."""
    began = round(time.time(), 3)
    file = settings.home / "run" / f"{kind}.heartbeat"
    heart = Heart(file, kind, name, node, lambda now: {"began": began, **facts(now)})
    heart.beat("starting")
    watchdog = Watchdog(heart, settings, lambda: get_engine().redis)
    watchdog.start()
    return heart, watchdog


class WorkerHeartbeat(bootsteps.StartStopStep):
    """Worker step: the pulse of the event loop, from before the first connection to after the last."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        worker.regrow_heart = None

    def start(self, worker: Any) -> None:
        settings = get_engine().settings
        facts = Progress(worker).facts
        heart, watchdog = watch("worker", worker.hostname, worker.hostname, settings, facts)
        worker.regrow_heart, worker.regrow_watchdog = heart, watchdog
        worker.timer.call_repeatedly(watchdog.every, self._pulse, (heart,))
        signals.worker_ready.connect(lambda **_: self._pulse(heart), weak=False)
        # Removed only when everything has stopped: a worker that drains is still one.
        signals.worker_shutdown.connect(lambda **_: watchdog.stop(), sender=worker, weak=False)

    @staticmethod
    def _pulse(heart: Heart) -> None:
        heart.beat("draining" if heart.last.state == "draining" else "running")

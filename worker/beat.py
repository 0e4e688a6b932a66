"""RedBeat that stands by, keeps its heart beating, and outlives its Redis and its broker.

Plain RedBeat exits when Redis is lost, waits for the lock without a sign of life, and forgets a run whose
message could not be sent. Here one tick is one turn of a small machine: renew the lease, or try to take it;
with it, send what is due, advancing an entry only once its message is with the broker; whatever is away,
say so in the heartbeat and look again soon. Beat therefore never exits for an outage: the schedule lives
in Redis, so a process that waits resumes in seconds, where one that exits meets its supervisor's back-off.
"""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import Any

import redis
import structlog
from kombu.exceptions import KombuError, OperationalError
from redbeat import RedBeatScheduler
from redbeat.schedulers import RedBeatSchedulerEntry, get_redis
from redis.exceptions import LockError
from redis.lock import Lock

from regrow.engine import get_engine
from regrow.redis import connect
from worker import schedule
from worker.heartbeat import Heart, Watchdog, watch
from worker.lifecycle import open_gate

log = structlog.get_logger(__name__)

FIRST_RUN = timedelta(seconds=5)
"""A new deployment's first runs wait so long, until its workers have been heard of."""
PAUSE = 2.0
"""Seconds to the next look while something is away."""


class Scheduler(RedBeatScheduler):  # type: ignore[misc, unused-ignore]
    lock_key: str | None

    def __init__(self, app: Any, lazy: bool = False, **options: Any) -> None:
        self._lease: Lock | None = None
        self._heart: Heart | None = None
        self._watchdog: Watchdog | None = None
        self._sent_at: float | None = None
        self._leads_since: float | None = None
        if not lazy:
            # Celery makes a lazy one first, only to print its banner.
            open_gate()
        app.redbeat_redis = _client()
        super().__init__(app, lazy=lazy, **options)
        # RedBeat would take its lock its own way: it finds no key, and leaves it alone.
        self.lease_key, self.lock_key = str(self.lock_key), None
        if not lazy:
            name = f"{socket.gethostname()}-{os.getpid()}"
            self._heart, self._watchdog = watch(
                "beat", name, f"beat@{socket.gethostname()}", get_engine().settings, self._facts
            )

    def tick(self, **_: Any) -> float:
        """One turn; the seconds until the next."""
        try:
            state, pause = self._turn()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            log.warning("beat.redis_away", error=str(error))
            state, pause = "redis_away", PAUSE
        except (KombuError, OSError) as error:
            log.warning("beat.broker_away", error=str(error))
            state, pause = "broker_away", PAUSE
        if self._heart is not None:
            self._heart.beat(state)
        return pause

    def _facts(self, now: float) -> dict[str, Any]:
        """When it last sent anything, and how often it should: a beat may tick on and send nothing."""
        del now
        schedules = [entry["schedule"] for entry in self.app.conf.beat_schedule.values()]
        every = min((each for each in schedules if isinstance(each, int | float)), default=None)
        moments = {"sent_at": self._sent_at, "leads_since": self._leads_since}
        return {"every": every, **{name: at and round(at, 3) for name, at in moments.items()}}

    def _turn(self) -> tuple[str, float]:
        if not self._leads():
            return "standby", schedule.LOOP
        conf = self.app.redbeat_conf
        keys = {name: self.Entry.generate_key(self.app, name) for name in conf.schedule}
        scores = get_redis(self.app).zmscore(conf.schedule_key, list(keys.values())) if keys else []
        lost = [name for name, score in zip(keys, scores, strict=True) if score is None]
        if lost:
            # Beating on without them would look healthy. Each is looked for, not only their key: who advances
            # one in the moment of the loss makes that key anew, with this one job in it.
            log.warning("beat.schedule_lost", key=conf.schedule_key, jobs=lost)
            self.setup_schedule()
        return "running", float(super().tick())

    def _leads(self) -> bool:
        """Renew the lease, or take it if nobody has it."""
        if self._lease is None:
            # Not blocking: a beat that stands by must keep its heart beating.
            self._lease = get_redis(self.app).lock(
                self.lease_key, timeout=self.lock_timeout, blocking=False, thread_local=False
            )
        try:
            if self._lease.local.token is not None:
                self._lease.reacquire()
                return True
        except LockError:
            # Away for longer than the lease, or Redis came back empty: somebody else may lead by now.
            log.warning("beat.lease_lost", key=self.lease_key)
            self._lease.local.token = None
        if self._lease.acquire():
            log.info("beat.leads", key=self.lease_key, seconds=self.lock_timeout)
            # An empty Redis has no schedule either.
            self.setup_schedule()
            self._leads_since = time.time()
            return True
        return False

    def update_from_dict(self, dict_: dict[str, Any]) -> None:
        """A job that never ran is due in a moment: what runs hourly shows at the start what it finds."""
        client = get_redis(self.app)
        new = [name for name in dict_ if not client.exists(self.Entry.generate_key(self.app, name))]
        super().update_from_dict(dict_)
        for name in new:
            entry = self.Entry.from_key(self.Entry.generate_key(self.app, name), app=self.app)
            early = max(entry.schedule.run_every - FIRST_RUN, timedelta())
            entry.reschedule(last_run_at=entry.last_run_at - early)

    def maybe_due(self, entry: RedBeatSchedulerEntry, **options: Any) -> float:
        """Send, then advance: a run that could not be sent stays due. At worst it is sent twice."""
        due, pause = entry.is_due()
        if due:
            self.apply_async(entry, advance=False, **options)
            self._sent_at = time.time()
            self.reserve(entry)
            log.debug("beat.sent", job=entry.name, task=entry.task)
        return float(pause)

    def apply_async(self, entry: RedBeatSchedulerEntry, **options: Any) -> Any:
        try:
            return super().apply_async(entry, **options)
        except Exception as error:
            # Celery wraps whatever happened into a SchedulingError, which says nothing to tick().
            if isinstance(error.__cause__ or error.__context__, KombuError | OSError):
                self.__dict__.pop("producer", None)
                self.__dict__.pop("_maybe_due_kwargs", None)
                raise OperationalError(str(error)) from error
            log.exception("beat.not_sent", job=entry.name, task=entry.task)
            return None

    def _ensure_connected(self) -> Any:
        # Celery would wait here for ever, without a sign of life.
        return self.connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)

    def close(self) -> None:
        """Give the lease back, so that another beat leads at once. Called twice by Celery's own shutdown."""
        lease, self._lease = self._lease, None
        if lease is not None and lease.local.token is not None:
            try:
                lease.release()
            except (redis.RedisError, LockError) as error:
                log.warning("beat.lease_not_released", error=str(error), frees_itself_in=self.lock_timeout)
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.stop()
        super().close()


def _client() -> redis.Redis:
    """Our own connection factory, so that Sentinel, TLS and timeouts are those of the settings."""
    chosen = get_engine().settings.redis
    return connect(
        chosen.url.get_secret_value(),
        socket_timeout=chosen.socket_timeout,
        connect_timeout=chosen.connect_timeout,
    )

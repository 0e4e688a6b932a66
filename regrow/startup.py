"""The start-up gate: worker, beat and web wait here until what they cannot do without is there.

A container platform starts everything at once. Waiting, and saying for what, is better than dying until it
works; giving up in the end, with the reason, is better than waiting for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import redis
import structlog

from regrow.engine import Engine
from regrow.errors import RegrowError, StoreUnavailableError

log = structlog.get_logger(__name__)

Probe = Callable[[], None]


class DependencyMissingError(RegrowError):
    """Something this process cannot run without did not come in time."""


def wait_for_dependencies(
    engine: Engine, *, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.monotonic
) -> None:
    """Return when Redis and the database answer and the tables are those of this version.

    Looks every ``startup.interval`` seconds (``DEPENDENCY_CHECK_INTERVAL``) for ``startup.timeout`` seconds
    (``STARTUP_TIMEOUT``); then DependencyMissingError, which names what is missing and its last answer.
    """
    settings = engine.settings.startup
    wait_until_there(
        {"redis": lambda: _redis(engine), "database": lambda: _database(engine)},
        timeout=settings.timeout,
        interval=settings.interval,
        sleep=sleep,
        now=now,
    )


def wait_until_there(
    probes: Mapping[str, Probe],
    *,
    timeout: float,
    interval: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Try each probe until it stops raising StoreUnavailableError; any other error is final."""
    began = now()
    missing = _missing(probes)
    while missing:
        left = began + timeout - now()
        if left <= 0:
            told = "; ".join(f"{name}: {answer}" for name, answer in missing.items())
            raise DependencyMissingError(
                f"waited {timeout:g} s for {' and '.join(missing)}, in vain. {told}. Start what is missing, "
                "correct its URL, or give it longer with STARTUP_TIMEOUT."
            )
        for name, answer in missing.items():
            log.warning("startup.waiting", dependency=name, answer=answer, seconds_left=round(left))
        sleep(min(interval, left))
        missing = _missing({name: probes[name] for name in missing})
    log.info("startup.ready", dependencies=sorted(probes), seconds=round(now() - began, 1))


def _missing(probes: Mapping[str, Probe]) -> dict[str, str]:
    found = {}
    for name, probe in probes.items():
        try:
            probe()
        except StoreUnavailableError as error:
            found[name] = str(error)
    return found


def _redis(engine: Engine) -> None:
    try:
        engine.redis.ping()
    except redis.RedisError as error:
        raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error


def _database(engine: Engine) -> None:
    """Reachable, and upgraded: processes that start together may all try, one at a time does it."""
    from regrow.database import migrating

    if engine.database.revision() != migrating.newest():
        engine.database.upgrade()

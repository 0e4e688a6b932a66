"""What worker, beat and web wait for: Redis, the database, and the checks that the settings name."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import redis
import structlog

from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.startup import DependencyMissingError, Gate, Probe
from regrow.startup_probes import probe_of_url

log = structlog.get_logger(__name__)


def wait_for_dependencies(engine: Engine, *, rest: Callable[[float], None] | None = None) -> None:
    """Return when what is required answers and the tables are those of this version.

    Looks every ``startup.interval`` seconds for ``startup.timeout`` seconds; then DependencyMissingError,
    which names what is missing and its last answer. Optional ones (the broker, and ``startup.optional``) are
    looked at too, and only logged. A store that answers and is unusable is its driver's error, at once.
    ``rest`` sleeps for so many seconds in our place, and may raise. SIGTERM and SIGINT end the process with
    exit code 0 while it waits, unless somebody handles them: it has nothing in hand.
    """
    with _stopped_by_signals():
        _wait(engine, rest)


def _wait(engine: Engine, rest: Callable[[float], None] | None) -> None:
    settings = engine.settings.startup
    until = time.monotonic() + settings.timeout
    Gate(
        {
            "redis": engine.redis.ping,
            "database": engine.database.ping,
            **{name: _check(engine, name) for name in settings.required},
        },
        {**_broker(engine), **{name: _check(engine, name) for name in settings.optional}},
        timeout=settings.timeout,
        interval=settings.interval,
        mendable=lambda error: isinstance(error, StoreUnavailableError | redis.RedisError | OSError),
        rest=rest,
    ).wait()
    _fit_tables(engine, until, rest or time.sleep)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    unhandled = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    if threading.current_thread() is not threading.main_thread():
        unhandled.clear()
    ours = {number: before for number, before in unhandled.items() if signal.getsignal(number) is before}
    for number in ours:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, before in ours.items():
            signal.signal(number, before)


def _stop(number: int, _frame: FrameType | None) -> None:
    log.info("startup.stopped", signal=signal.Signals(number).name)
    raise SystemExit(0)


def _check(engine: Engine, name: str) -> Probe:
    from regrow.health.checks import probe_of

    probe = probe_of(engine.settings.health.checks[name], engine.settings)

    def there() -> None:
        found = probe()
        if found.status not in {"healthy", "degraded"}:
            raise StoreUnavailableError(f"{found.status}: {found.message}")

    return there


def _broker(engine: Engine) -> dict[str, Probe]:
    """The broker, where it is a server of its own: workers and beat wait for it by themselves."""
    url = engine.settings.broker_url(None)
    if not url.startswith("amqp"):
        return {}
    return {"broker": probe_of_url(url)}


def _fit_tables(engine: Engine, until: float, rest: Callable[[float], None]) -> None:
    """Upgrade the tables where that is to be done: processes that start together may all try, one does it.

    It takes as long as it takes, for a migration that is cut off leaves tables of no version.
    """
    from regrow.database import migrating

    while True:
        try:
            if engine.database.revision() != migrating.newest():
                log.info("startup.migrating", to=migrating.newest())
                engine.database.upgrade()
        except StoreUnavailableError as error:
            if time.monotonic() >= until:
                raise DependencyMissingError(
                    f"the tables are not those of this version, and could not be made so: {error}"
                ) from error
            log.warning("startup.waiting", dependency="tables", answer=str(error))
            rest(engine.settings.startup.interval)
        else:
            return

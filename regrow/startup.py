"""The start-up gate: a process waits here until what it cannot do without is there.

A container platform starts everything at once. Waiting, and saying for what, is better than dying until it
works; giving up in the end, with the reason, is better than waiting for ever::

    regrow.wait_for(
        {"cache": "redis://cache:6379/0", "model": "http://model:8001/health", "schema": migrated},
        optional={"search": "tcp://search:9200"},
    )
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from regrow.errors import RegrowError, SettingsError, StoreUnavailableError
from regrow.log_events import CREDENTIALS, EventLog
from regrow.startup_probes import probe_of_url

log = EventLog("regrow.startup")

Probe = Callable[[], Any]
"""Raises, or returns False, while the dependency is not there. Also a coroutine function."""

TIMEOUT = 300.0
INTERVAL = 5.0
ABANDONED_AFTER = 15.0
"""Seconds after which one look that has not come back is no longer waited for, and another is begun."""
_NOT_ASKED = "not asked yet"
_LOOK = 0.1
"""Seconds between two looks at whether all have answered."""
OPTIONAL_PATIENCE = 2.0
"""Seconds for which the optional ones may keep a process that could begin."""


class DependencyMissingError(RegrowError):
    """Something this process cannot run without did not come in time."""


def wait_for(
    required: Mapping[str, str | Probe],
    *,
    optional: Mapping[str, str | Probe] | None = None,
    timeout: float | None = None,
    interval: float | None = None,
) -> dict[str, bool]:
    """Return when all that is ``required`` is there; whether each one is, by name.

    A dependency is a URL (``redis://`` and its kin, ``http(s)://`` answering below 400, ``tcp://host:port``,
    ``amqp(s)://``, any SQLAlchemy URL) or a function that raises or returns False while it is not there. All
    are asked at once, every ``interval`` seconds (``DEPENDENCY_CHECK_INTERVAL``, 5), each in a thread of its
    own, so that one that hangs delays nothing. After ``timeout`` seconds (``STARTUP_TIMEOUT``, 300)
    DependencyMissingError says what was missing and its last answer. ``optional`` ones are logged.
    """
    return _gate(required, optional, timeout, interval).wait()


async def wait_for_async(
    required: Mapping[str, str | Probe],
    *,
    optional: Mapping[str, str | Probe] | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - as wait_for()
    interval: float | None = None,
) -> dict[str, bool]:
    """:func:`wait_for` that does not hold up the event loop; for an application's lifespan."""
    gate = _gate(required, optional, timeout, interval)
    try:
        return await asyncio.to_thread(gate.wait)
    except asyncio.CancelledError:
        gate.give_up()
        raise


def _gate(
    required: Mapping[str, str | Probe],
    optional: Mapping[str, str | Probe] | None,
    timeout: float | None,
    interval: float | None,
) -> Gate:
    return Gate(
        {name: _probe(told) for name, told in required.items()},
        {name: _probe(told) for name, told in (optional or {}).items()},
        timeout=_seconds("STARTUP_TIMEOUT", TIMEOUT) if timeout is None else timeout,
        interval=_seconds("DEPENDENCY_CHECK_INTERVAL", INTERVAL) if interval is None else interval,
    )


def _mendable(error: Exception) -> bool:
    """All but what was said wrongly: a probe of an application may raise anything while it waits."""
    return isinstance(error, StoreUnavailableError) or not isinstance(error, RegrowError)


class Gate:
    """Waits for what is required. Times in seconds."""

    def __init__(
        self,
        required: Mapping[str, Probe],
        optional: Mapping[str, Probe],
        *,
        timeout: float,
        interval: float,
        mendable: Callable[[Exception], bool] = _mendable,
        rest: Callable[[float], None] | None = None,
    ) -> None:
        """``mendable``: whether waiting may mend an error; another one goes on to the caller at once.

        ``rest`` sleeps for so many seconds in our place, and may raise to end the wait.
        """
        self._required = [_Dependency(name, probe) for name, probe in required.items()]
        self._optional = [_Dependency(name, probe) for name, probe in optional.items()]
        self._timeout = timeout
        self._interval = interval
        self._mendable = mendable
        self._rest_instead = rest
        self._answered = threading.Event()
        self._given_up = False

    def give_up(self) -> None:
        """From another thread: wait no longer."""
        self._given_up = True
        self._answered.set()

    def wait(self) -> dict[str, bool]:
        began = time.monotonic()
        until = began + self._timeout
        while True:
            round_ends = min(time.monotonic() + self._interval, until)
            self._look(round_ends, began)
            missing = [one for one in self._required if not one.there]
            if not missing or self._given_up:
                break
            if time.monotonic() >= until:
                raise DependencyMissingError(self._in_vain(missing))
            for one in missing:
                log.warning(
                    "startup.waiting",
                    dependency=one.name,
                    answer=one.answer,
                    waited=round(time.monotonic() - began, 1),
                    seconds_left=round(until - time.monotonic()),
                )
            self._rest(round_ends)
        for one in self._optional:
            if not one.there:
                log.warning("startup.optional_missing", dependency=one.name, answer=one.answer)
        log.info(
            "startup.ready",
            dependencies=sorted(one.name for one in self._required if one.there),
            seconds=round(time.monotonic() - began, 1),
        )
        return {one.name: one.there for one in (*self._required, *self._optional)}

    def _look(self, until: float, began: float) -> None:
        """Ask those that are missing, all at once, and wait for their answers as long as the round lasts."""
        for one in (*self._required, *self._optional):
            if not one.there:
                one.ask(self._answered)
        patience = min(until, began + OPTIONAL_PATIENCE)
        while not self._given_up:
            self._answered.clear()
            asked = any(one.asking for one in self._required)
            asked_optional = any(one.asking for one in self._optional)
            end = until if asked else patience
            if not (asked or asked_optional) or (left := end - time.monotonic()) <= 0:
                break
            self._pause(left)
        for one in (*self._required, *self._optional):
            one.settle(self._mendable)

    def _rest(self, until: float) -> None:
        while not self._given_up and (left := until - time.monotonic()) > 0:
            self._answered.clear()
            self._pause(left)

    def _pause(self, seconds: float) -> None:
        """Until somebody has answered, or for so long."""
        if self._rest_instead is None:
            self._answered.wait(min(seconds, _LOOK))
        else:
            self._rest_instead(min(seconds, _LOOK))

    def _in_vain(self, missing: list[_Dependency]) -> str:
        told = "; ".join(f"{one.name}: {one.answer}" for one in missing)
        names = " and ".join(one.name for one in missing)
        return (
            f"waited {self._timeout:g} s for {names}, in vain. {told}. "
            "Start what is missing, correct its URL, or give it longer with STARTUP_TIMEOUT."
        )


class _Dependency:
    """One dependency and the look at it that is under way."""

    def __init__(self, name: str, probe: Probe) -> None:
        self.name = name
        self.there = False
        self.answer = _NOT_ASKED
        self._probe = probe
        self._under_way: _Look | None = None

    @property
    def asking(self) -> bool:
        return self._under_way is not None and self._under_way.is_alive()

    def ask(self, answered: threading.Event) -> None:
        """Begin a look, unless one is under way that may still come back."""
        now = time.monotonic()
        if self._under_way is not None and self.asking and now - self._under_way.began < ABANDONED_AFTER:
            return
        self._under_way = _Look(self._probe, answered)
        self._under_way.start()

    def settle(self, mendable: Callable[[Exception], bool]) -> None:
        """Take what the look found. An error that waiting cannot mend goes on to the caller."""
        look = self._under_way
        if look is None:
            return
        if look.is_alive():
            lasted = time.monotonic() - look.began
            if (
                lasted >= 1 or self.answer == _NOT_ASKED
            ):  # what it said last is worth more than a short silence
                self.answer = f"no answer for {lasted:.1f} s"
            return
        self._under_way = None
        if look.error is None:
            self.there, self.answer = True, "there"
        elif not mendable(look.error):
            raise look.error
        else:
            self.answer = _in_words(look.error)


class _Look(threading.Thread):
    """One look at a dependency. A thread, because a driver may hang in a call that nothing else ends."""

    def __init__(self, probe: Probe, answered: threading.Event) -> None:
        super().__init__(name="regrow-startup", daemon=True)
        self.began = time.monotonic()
        self.error: Exception | None = None
        self._probe = probe
        self._answered = answered

    def run(self) -> None:
        try:
            found = self._probe()
            if inspect.iscoroutine(found):
                found = asyncio.run(found)
            if found is False:
                self.error = StoreUnavailableError("it says that it is not there")
        except Exception as error:
            self.error = error
        self._answered.set()


def _in_words(error: Exception) -> str:
    said = " ".join(str(error).split())
    told = said if isinstance(error, RegrowError) else f"{type(error).__name__}: {said}"
    return CREDENTIALS.sub("://***@", told)


def _probe(told: str | Probe) -> Probe:
    return probe_of_url(told) if isinstance(told, str) else told


def _seconds(variable: str, default: float) -> float:
    told = os.environ.get(variable) or default
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"{variable}: {told!r} is no number of seconds. Write one above 0.")
    return seconds

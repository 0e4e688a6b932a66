"""The level as one process knows it: read without I/O, kept fresh by a thread that listens.

Nobody who asks for the level waits for Redis. The thread hears a change at once (Redis says so), looks every
two seconds anyway (a message may be lost), and belongs to no event loop; it starts with the first question,
or ahead of it, and starts anew in a forked child, which goes on from what its parent knew.

Redis away: the last level holds for ``degradation.hold`` seconds after the monitor last confirmed it. From
then on the level is unknown, and no better than ``degradation.when_unknown``. A process that was told of no
Redis has no monitor either: its level is normal, and it says once that nobody measures.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

from regrow.degradation.levels import Level
from regrow.degradation.state import Policy, State, seen
from regrow.degradation.store import LevelStore
from regrow.errors import StoreUnavailableError
from regrow.log_events import EventLog
from regrow.subscription import Subscription

log = EventLog("regrow.degradation")

LOOK_EVERY = 2.0  # seconds
AGAIN = 1.0  # seconds until a lost Redis is tried again
FIRST_LOOK = 0.25  # seconds that the first who asks may wait for the first look
FORKING = frozenset({"celery", "gunicorn", "uwsgi"})  # modules of servers that load the application and fork

Listener = Callable[[Level, Level], object]


class Known(NamedTuple):
    """What a process knows. ``until``: monotonic seconds up to which ``level`` may be told without a thought.

    ``heard`` is when ``state`` was read, by this process's clock; ``now`` the same moment by Redis' (ms).
    """

    level: Level
    known: bool
    why: str
    until: float
    state: State | None = None
    heard: float = 0.0
    now: int = 0


_NOTHING = Known(Policy().when_unknown, known=False, why="nothing was heard yet", until=0.0)
_LOCAL = Known(Level.NORMAL, known=False, why="no Redis is configured: nobody measures", until=float("inf"))


class Watch:
    """The level for one process, from one store. ``store=None``: nobody measures."""

    def __init__(self, store: LevelStore | None) -> None:
        self.store = store
        self._listeners: tuple[Listener, ...] = ()
        self._told = _NOTHING if store else _LOCAL
        self._begin()
        _watches.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._ready = threading.Event()
        self._started_at = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False
        self._warned = False
        self.listening = False
        """Whether a change would be heard at the moment."""

    # What callers do ----------------------------------------------------------------------------------

    def level(self) -> Level:
        """The level that holds now. No I/O; the very first question may wait for the first look."""
        told = self._told
        if time.monotonic() < told.until and self._thread is not None:
            return told.level
        return self._now().level

    def view(self) -> Known:
        """The level with what is known of it."""
        return self._now()

    @property
    def policy(self) -> Policy:
        """What the worker told of its settings, or the defaults."""
        state = self._told.state
        return state.policy if state is not None else _DEFAULT_POLICY

    @property
    def looked(self) -> bool:
        """Whether the first look is over, or there is none to wait for."""
        return self.store is None or self._ready.is_set()

    def start(self) -> None:
        """Begin to listen, if that has not begun."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or self._closed:
                return
            self._started_at = time.monotonic()
            if self.store is None:
                self._thread = threading.current_thread()  # there is nothing to do for one
                log.warning("degradation.local", remedy="call regrow.configure(redis_url=...) for a level")
                return
            thread = threading.Thread(target=self._run, name="regrow-degradation", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is going down
                return
            self._thread = thread

    def start_ahead(self) -> None:
        """Begin before the first question; not in the parent of a pool, which should have no thread then."""
        if self.store is not None and not FORKING.intersection(sys.modules):
            self.start()

    def wait_for_first_look(self) -> None:
        """Wait until something is known, at most :data:`FIRST_LOOK` seconds after the start."""
        self.start()
        if not self.looked:
            self._ready.wait(max(0.0, self._started_at + FIRST_LOOK - time.monotonic()))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener(old, new)`` in the thread when the level changes; returns what ends that."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
        self.start_ahead()

        def stop() -> None:
            with self._lock:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        return stop

    def adopt(self, other: Watch) -> None:
        """Go on for another watch: who listened there is called here; if it had begun, this one begins."""
        self._listeners = other._listeners
        if other._thread is not None:
            self.start_ahead()

    def close(self) -> None:
        """End the thread, soon; nobody needs to wait for that."""
        self._closed = True
        self._bell.set()

    def after_fork(self) -> None:
        """In a child: threads, locks and sockets are the parent's, what it knew holds on."""
        closed = self._closed
        self._begin()
        self._closed = closed
        if self.store is not None:
            self.store.after_fork()

    # What is known ------------------------------------------------------------------------------------

    def _now(self) -> Known:
        self.start()
        told = self._told
        if told.state is None and not self.looked and not _in_event_loop():
            self.wait_for_first_look()
            told = self._told
        now = time.monotonic()
        if now < told.until:
            return told
        return self._judge(told, now)

    def _judge(self, told: Known, now: float) -> Known:
        """What follows from the time that has passed since Redis was heard."""
        at = told.now + round((now - told.heard) * 1000)
        found = seen(told.state, told.now, at)
        until = now + (found.until - at) / 1000
        return told._replace(level=found.level, known=found.known, why=found.why, until=until)

    def _hear(self, state: State | None, now: int) -> None:
        """Redis has told. A Redis that forgot everything says nothing new: what was known holds on."""
        told, heard = self._told, time.monotonic()
        if state is None and told.state is not None:
            state, now, heard = told.state, told.now, told.heard
        self._settle(self._judge(Known(told.level, False, "", 0.0, state, heard, now), time.monotonic()))

    def _settle(self, found: Known) -> None:
        before, self._told = self._told, found
        first = not self._ready.is_set()
        self._ready.set()
        if found.known != before.known and not first:
            tell = log.info if found.known else log.warning
            tell("degradation.heard", known=found.known, level=str(found.level), reason=found.why)
        if found.level is before.level:
            return
        if not first:
            log.info("degradation.heard", level=str(found.level), before=str(before.level), reason=found.why)
        for listener in self._listeners:
            try:
                listener(before.level, found.level)
            except Exception:
                log.error("degradation.listener_failed", listener=repr(listener))  # noqa: TRY400

    # The thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self.store is not None  # noqa: S101 - start() sees to it
        store = self.store
        while not self._closed:
            try:
                self._follow(store)
            except StoreUnavailableError as error:
                self._miss(error)
            except Exception as error:  # a defect of ours must not end what keeps the level fresh
                self._miss(error)
            finally:
                self.listening = False
            self._bell.wait(AGAIN)

    def _miss(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("degradation.redis_away", error=str(error))
        self._settle(self._judge(self._told, time.monotonic()))

    def _follow(self, store: LevelStore) -> None:
        """Listen first, then look: so no change falls between the two."""
        connection = store.listen()
        with contextlib.closing(connection):
            while not self._closed:
                self._hear(*store.look())
                self._warned = False
                self.listening = True
                self._wait_for_news(connection)

    def _wait_for_news(self, connection: Subscription) -> None:
        until = time.monotonic() + LOOK_EVERY
        while not self._closed and (left := until - time.monotonic()) > 0:
            if connection.message(left) is not None:
                return


_DEFAULT_POLICY = Policy()
_watches: weakref.WeakSet[Watch] = weakref.WeakSet()


def _in_event_loop() -> bool:
    """Whether to wait here would hold up an event loop."""
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _after_fork_in_child() -> None:
    for watch in list(_watches):
        watch.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""The reporter: one daemon thread a process that talks to the store for all its breakers.

Callers never wait for Redis. They leave outcomes in cells; the reporter carries them to the store every
100 ms, a failure at once (at most every 10 ms), and brings the fleet's state back. It belongs to no event
loop, starts with the first breaker (where a pool may yet be forked: with the first outcome), and starts anew
in a forked child.

What is said to the store and heard from it in one turn, and what happens when it is away: ``turns``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import socket
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from regrow.breakers import quorum
from regrow.breakers.cell import ASK_EVERY, LEASE, Cell, Probe
from regrow.breakers.declared import settled
from regrow.breakers.push import Push
from regrow.breakers.rules import (
    BreakerConfig,
    Order,
)
from regrow.breakers.store import BreakerStore, MemoryStore
from regrow.breakers.turns import Turns
from regrow.configuration import configured
from regrow.errors import SettingsError, StoreUnavailableError
from regrow.pools import at_exit_of_pool_processes
from regrow.riding import Rider

logger = logging.getLogger("regrow.breakers")

TICK = 0.1  # seconds between reports of a busy process
COALESCE = 0.01  # seconds between two reports that failures asked for
LOOK_EVERY = 2.0  # seconds after which a quiet breaker is looked at
FORKING = frozenset({"celery", "gunicorn", "uwsgi"})  # modules of servers that load the application and fork


class Reporter(Turns):
    """The breakers of this process and their way to the store. ``remote=None``: local to this process."""

    def __init__(self, remote: BreakerStore | None = None, *, host: str | None = None) -> None:
        """``host``: what this process runs on; None: as configured, else the host's or container's name."""
        self.remote = remote
        self._told_host = host
        self.host = _this_host(host)
        self.memory = MemoryStore()
        self.idle = True
        """Nobody listens for outcomes at the moment: whoever leaves one calls :meth:`wake`."""
        self._cells: dict[str, Cell] = {}
        self._released: deque[Cell] = deque()
        self._riders: tuple[weakref.ref[Rider], ...] = ()
        self._now = time.monotonic
        self._begin()
        _reporters.add(self)

    def _begin(self) -> None:
        self.name = f"{self.host}-{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._news = threading.Event()  # somebody else changed something: no reason to save on round trips
        self._thread: threading.Thread | None = None
        self._closed = False
        self._away: dict[str, float] = {}  # lost shards of the store, and when to try them again
        self._warned = False
        self.idle = True
        self._push = self._listening()

    def _listening(self) -> Push | None:
        """What hears of changes elsewhere, not yet started."""
        if self.remote is None:
            return None
        return Push(self.remote.listen, lambda: list(self._cells), self._changed)

    # The breakers -------------------------------------------------------------------------------------

    def cell(self, name: str, given: Mapping[str, Any]) -> Cell:
        """The one cell of this name. SettingsError when it exists with other settings, or for unusable ones.

        ``given``: the settings that the code gives; others may be declared in ``regrow.toml``.
        """
        config = BreakerConfig(**given)
        with self._lock:
            cell = self._cells.get(name)
            if cell is None:
                cell = self._made(name, config)
            elif given and cell.given and config != (known := BreakerConfig(**cell.given)):
                raise SettingsError(
                    f"circuit breaker {name!r} already has other settings in this process:"
                    f" {_difference(known, config)}."
                    " Make it once and share it, or use regrow.get_circuit_breaker(name)."
                )
            if given and not cell.given:
                cell.given, cell.above = dict(given), None
                cell.config = settled(name, given, cell.declared)
            cell.holders = math.inf
        self._connect_ahead()
        return cell

    def hold(self, name: str, above: Cell) -> Cell:
        """The one cell of this name, for as long as a breaker of a passing key under ``above`` needs it."""
        with self._lock:
            cell = self._cells.get(name)
            if cell is None:
                cell = self._made(name, above.config)
                cell.above = above
                cell.holders = 0
            cell.holders += 1
            return cell

    def _made(self, name: str, config: BreakerConfig) -> Cell:
        cell = Cell(name, config, self.host)
        if self._away and self.remote is not None and (shard := self.remote.shard(name)) in self._away:
            self._detach(cell, shard, self._now())
        self._cells[name] = cell
        return cell

    def release(self, cell: Cell) -> None:
        """One holder less. Called while garbage is collected, at any point of any thread: takes no lock."""
        self._released.append(cell)

    def _drop_released(self) -> None:
        """Let go of cells that nobody holds and that have nothing left to tell."""
        for _ in range(len(self._released)):
            cell = self._released.popleft()
            if not cell.idle:
                self._released.append(cell)  # next time
                continue
            with self._lock:
                cell.holders -= 1
                if cell.holders <= 0 and self._cells.get(cell.name) is cell:
                    del self._cells[cell.name]
                    self.memory.drop(cell.name)

    def known(self) -> dict[str, Cell]:
        """The breakers of this process by name."""
        return dict(self._cells)

    @property
    def local(self) -> bool:
        """Whether any breakers are decided in this process at the moment."""
        return self.remote is None or bool(self._away)

    def carry(self, rider: Rider) -> None:
        """Take along what else has something to tell Redis every tenth of a second."""
        with self._lock:
            held = (known for known in self._riders if known() is not None)
            self._riders = (*held, weakref.ref(rider))

    def _due_riders(self) -> list[Rider]:
        return [rider for known in self._riders if (rider := known()) is not None and rider.due]

    # What callers do ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """See to it that the thread runs, and soon."""
        self.idle = False
        if self._thread is None or not self._thread.is_alive():
            self._start()
        self._bell.set()

    def _connect_ahead(self) -> None:
        """Connect and look before the first call, so that the first failure is told at once.

        Not in the parent of a pool, which makes breakers as it loads the application, and then forks: it
        should have no thread by then. Its children connect with their first call.
        """
        if self.remote is not None and self._thread is None and not FORKING.intersection(sys.modules):
            self.wake()

    def report_now(self, cell: Cell) -> None:
        """A call failed, or a probe ended: decide at once where that needs no network, else report early."""
        if self.is_local(cell):
            self.settle_inline(cell)
        else:
            self.wake()

    def settle_inline(self, cell: Cell) -> None:
        """A turn in the caller's thread, with the local store; never waits for another thread."""
        while self.is_local(cell) and cell.turn.acquire(blocking=False):
            try:
                told = self._turn(cell)
            finally:
                cell.turn.release()
            self._tell(cell, told)
            if not cell.busy:
                break
        if self.idle:
            self.wake()

    def freshen(self, cell: Cell) -> None:
        """Somebody wants to know: bring the cell up to date, at once if that is local, else soon."""
        if self.is_local(cell):
            self.settle_inline(cell)
        elif self._now() - cell.heard_at > LOOK_EVERY:
            self.wake()

    def seek_probe(self, cell: Cell) -> Probe | None:
        """A lease for a caller that the gate refuses, if this process has one at hand."""
        now = self._now()
        probe = cell.take_probe(now)
        if probe is not None:
            return probe
        if not cell.refused:
            cell.refused = True
            self.wake()  # so that a lease is asked for as soon as the time is over
        if now < cell.gate.reopens_at:
            return None
        cell.wanted_until = now + LEASE
        if not self.is_local(cell):
            if now - cell.asked_at >= ASK_EVERY:
                self.wake()
            return None
        self.settle_inline(cell)
        return cell.take_probe(now)

    def wait_for_probe(self, cell: Cell) -> Future[Probe | None]:
        """A future lease; its result is None when the breaker has closed meanwhile. Cancel it to give up."""
        waiter: Future[Probe | None] = Future()
        cell.waiters.append(waiter)
        self.wake()
        return waiter

    def order(self, cell: Cell, order: Order) -> None:
        """A person's command, fleet-wide; waits for the store. StoreUnavailableError when it is away."""
        with cell.turn:
            if cell.lost is not None:
                raise StoreUnavailableError(
                    f"Redis is away: {order.kind} of circuit breaker {cell.name!r} would reach this process"
                    " only; not done"
                )
            shard = self._shard(cell)
            try:
                outcome = self._step(cell, order, self.remote or self.memory)
            except StoreUnavailableError as error:
                self._lose(cell, shard, error)
                raise
        self._tell(cell, outcome.transitions)

    def flush(self) -> None:
        """Report what is gathered, now, in the caller's thread; gives up when the store does not answer."""
        self._deliver([cell for cell in self._all_cells() if cell.busy])
        for rider in self._due_riders():
            rider.ride()

    def _deliver(self, busy: Sequence[Cell]) -> None:
        self._send_ahead(busy)
        for cell in busy:
            if cell.busy or cell.backlog:
                self._turn_safely(cell)

    def close(self) -> None:
        """Report what is gathered and end the thread."""
        self._closed = True
        self._bell.set()
        if self._push is not None:
            self._push.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2.0)
        self.flush()

    def attach(self, remote: BreakerStore | None) -> None:
        """Use another store from now on, under the name that this host is now configured with.

        What is gathered belongs to the store of before and is told to it, once; what that does not take is of
        no use to another, whose epochs it does not know, and is said to be lost.
        """
        cells = self._all_cells()
        self._deliver([cell for cell in cells if cell.untold and not self.is_local(cell)])
        self.host = _this_host(self._told_host)
        lost = 0
        with contextlib.ExitStack() as turns:
            # All at once, or a turn in between would tell the new store what the old one said.
            for cell in cells:
                turns.enter_context(cell.turn)
            for cell in cells:
                cell.host = self.host
                cell.fleet, cell.fleet_at, cell.heard_at = None, -math.inf, -math.inf
                cell.lost = None
                lost += cell.untold if self.remote is not None else 0
                cell.backlog.clear()
                cell.unhear()
            with self._lock:
                if self._push is not None:
                    self._push.close()
                self._away.clear()
                self.remote = remote
                self._push = self._listening()
                if self._push is not None and self._thread is not None:
                    self._push.start()
        if lost:
            logger.warning(
                "breakers.outcomes_lost",
                extra={"calls": lost, "reason": "the Redis of before was away when another was configured"},
            )

    def restart(
        self,
        remote: BreakerStore | None,
        memory: MemoryStore | None = None,
        *,
        seconds: Callable[[], float] | None = None,
    ) -> None:
        """Begin anew on another store, as if nobody had called a breaker yet. Nobody may call one meanwhile.

        ``memory``: what decides without ``remote``. ``seconds``: a clock to go by, and no thread; each
        decision is made by the caller who brings it about, and by who calls :meth:`attend`.
        """
        self.close()
        self.remote, self.memory = remote, memory or MemoryStore()
        self._begin()
        self._now = seconds or time.monotonic
        self._closed, self.idle = seconds is not None, seconds is None
        for cell in self._all_cells():
            cell.begin_anew()

    def attend(self) -> float:
        """A turn for every breaker that needs one; in how many seconds the next one does, at the latest."""
        self._round()
        due = min((cell.due_at() for cell in self._all_cells()), default=math.inf)
        return max(0.0, due - self._now())

    def after_fork(self) -> None:
        """In a child: locks, threads and sockets are the parent's; breakers go on from the same state."""
        self._begin()
        self.memory.after_fork()
        if self.remote is not None:
            self.remote.after_fork()
        for cell in self._cells.values():
            cell.after_fork()

    # The thread ---------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            thread = threading.Thread(target=self._run, name="regrow-breakers", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is going down; flush at exit does what is left
                return
            self._thread = thread
            if self._push is not None:
                self._push.start()
        if not self._warned and self.remote is None:
            self._warned = True
            logger.warning(
                "breakers.local: no Redis is configured, so circuit breakers are of this process alone;"
                " call regrow.configure(redis_url=...) or set REGROW_REDIS_URL"
            )
        at_exit_of_pool_processes(self.flush, priority=100)

    def _run(self) -> None:
        quiet_since = self._now()
        while not self._closed:
            self._bell.clear()
            self._news.clear()
            worked = False
            try:
                worked = self._round()
            except Exception:
                # A defect of ours must not end the reports of every breaker of the process.
                logger.exception("breakers.reporter_failed")
            now = self._now()
            if worked:
                quiet_since = now
            self._sleep(now, quiet=now - quiet_since > 10 * TICK)

    def _sleep(self, now: float, *, quiet: bool) -> None:
        cells = self._all_cells()
        due = min((cell.due_at() for cell in cells), default=math.inf)
        # First say that nobody listens, then look whether someone spoke meanwhile: so nothing is left lying.
        self.idle = quiet
        longest = (
            LOOK_EVERY if quiet and not any(cell.busy for cell in cells) and not self._due_riders() else TICK
        )
        self._bell.wait(min(longest, max(COALESCE, due - now)))
        self.idle = False
        pause = COALESCE - (self._now() - now)
        if pause > 0:
            self._news.wait(pause)

    def _round(self) -> bool:
        """A turn for every breaker that needs one; whether there was anything to say."""
        for shard, retry_at in list(self._away.items()):
            if self._now() >= retry_at:
                self._try_to_return(shard)
        now = self._now()
        cells = self._all_cells()
        worked = any(cell.busy or cell.waiters or now < cell.wanted_until for cell in cells)
        due = [cell for cell in cells if self._needs_turn(cell, now)]
        self._send_ahead(due)
        for cell in due:
            if self._needs_turn(cell, self._now()):
                self._turn_safely(cell)
        self._drop_released()
        riders = self._due_riders()
        for rider in riders:
            rider.ride()
        return worked or bool(riders)

    def _needs_turn(self, cell: Cell, now: float) -> bool:
        return bool(
            cell.busy
            or (cell.backlog and not self.is_local(cell))
            or (cell.stale and now >= cell.looks_again_at)
            or cell.waiters
            or cell.asks_for_probe(now)
            or now >= cell.due_at()
            or now - cell.heard_at >= LOOK_EVERY
        )

    def _changed(self, name: str, epoch: int) -> None:
        """Something was published: look soon. Called by the listening thread; the look is ours."""
        cell = self._cells.get(name)
        if cell is not None and cell.lost is None and epoch > cell.known.minted:
            cell.stale = True
            self._news.set()
            self.wake()


_reporters: weakref.WeakSet[Reporter] = weakref.WeakSet()


def _this_host(told: str | None) -> str:
    return quorum.host_name(told or configured().reporter or socket.gethostname())


def _difference(old: BreakerConfig, new: BreakerConfig) -> str:
    before, after = old.as_dict(), new.as_dict()
    return ", ".join(
        f"{name} is {before[name]}, not {after[name]}" for name in before if before[name] != after[name]
    )


def _after_fork_in_child() -> None:
    for reporter in list(_reporters):
        reporter.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""Turns: what a process says to the store about one breaker, and what it hears.

The policy for an absent Redis stands here, once: from the first error every breaker goes on by the same
rules in this process's memory, from the last state heard, while Redis is tried once a second; when it is
back its state is taken over and what happened meanwhile is submitted as evidence. Of a cluster each node is
lost and found by itself: the breakers of the others go on as ever.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from regrow.breakers import quorum, rules
from regrow.breakers.cell import LEASE, RENEW_EVERY, Batch, Cell, Lost, Probe
from regrow.breakers.counting import count_calls, count_durations, count_refusals
from regrow.breakers.events import log_transitions
from regrow.breakers.listeners import announce
from regrow.breakers.rules import AskProbe, Event, Look, RenewProbe, Report, Transition
from regrow.breakers.store import BreakerStore, MemoryStore, Outcome, Step
from regrow.errors import StoreUnavailableError

logger = logging.getLogger("regrow.breakers")

RETRY_EVERY = 1.0  # seconds between two tries of an absent Redis


class Turns:
    """The turns of a process's breakers. :class:`regrow.breakers.reporter.Reporter` says when they are."""

    remote: BreakerStore | None
    memory: MemoryStore
    name: str
    """This process, among all that report."""
    _now: Callable[[], float]
    """Seconds that pass, by the clock of this reporter."""
    _lock: threading.Lock
    _cells: dict[str, Cell]
    _away: dict[str, float]
    """Lost shards of the store, and when to try them again."""

    def is_local(self, cell: Cell) -> bool:
        """Whether this breaker is decided in this process at the moment."""
        return self.remote is None or cell.lost is not None

    def _store(self, cell: Cell) -> BreakerStore:
        return self.memory if self.remote is None or cell.lost is not None else self.remote

    # Turns --------------------------------------------------------------------------------------------

    def _send_ahead(self, cells: Sequence[Cell]) -> None:
        """What most turns consist of, one report or one look, for many breakers in one trip to the store."""
        shared = [cell for cell in cells if not self.is_local(cell)]
        if len(shared) < 2:
            return
        told: list[tuple[Cell, Sequence[Transition]]] = []
        with contextlib.ExitStack() as turns:
            for cell in shared:
                turns.enter_context(cell.turn)
            remote = self.remote  # not before the turns are ours: until then another store may be attached
            if remote is None:
                return
            shards = [remote.shard(cell.name) for cell in shared]
            events = [self._first_event(cell) for cell in shared]
            outcomes = remote.apply_all(
                [
                    Step(cell.name, cell.config, event, cell.host)
                    for cell, event in zip(shared, events, strict=True)
                ]
            )
            for cell, shard, event, outcome in zip(shared, shards, events, outcomes, strict=True):
                try:
                    if isinstance(outcome, StoreUnavailableError):
                        raise outcome
                    told.append((cell, self._take(cell, event, outcome, remote).transitions))
                    if isinstance(event, Report):
                        cell.backlog.popleft()
                except StoreUnavailableError as error:
                    self._lose(cell, shard, error)
        for cell, transitions in told:
            self._tell(cell, transitions)

    def _first_event(self, cell: Cell) -> Event:
        """What a turn of this breaker begins with."""
        cell.attend(self._now())
        if not cell.gate.heard:
            return Look()
        self._gather(cell, self._now())
        return cell.backlog[0].report if cell.backlog else Look()

    def _turn_safely(self, cell: Cell) -> None:
        """A turn; the last one for now with the store, if that is found to be away."""
        with cell.turn:
            shard = self._shard(cell)
            try:
                told = self._turn(cell)
            except StoreUnavailableError as error:
                self._lose(cell, shard, error)
                return
        self._tell(cell, told)

    def _shard(self, cell: Cell) -> str:
        """Where the breaker is kept. Asked before a step: one that fails makes a cluster look around."""
        return self.remote.shard(cell.name) if self.remote is not None else ""

    def _turn(self, cell: Cell) -> list[Transition]:
        """Tell the store what is new, hear what it says. The caller holds ``cell.turn``."""
        began = self._now()
        cell.attend(began)
        store = self._store(cell)
        told: list[Transition] = []
        if not cell.gate.heard:
            told += self._step(cell, Look(), store).transitions
        report = self._gather(cell, began)
        if report is not None and not store.remote:
            told += self._step(cell, report, store).transitions
        while store.remote and cell.backlog:
            told += self._step(cell, cell.backlog[0].report, store).transitions
            cell.backlog.popleft()
        while cell.settled:
            told += self._step(cell, cell.settled[0], store).transitions
            result = cell.settled.popleft().result
            if result is not rules.ProbeResult.RELEASE:
                count_calls(cell, 1, failures=result is rules.ProbeResult.FAILURE)
            cell.wanted_until, cell.asked_at = began + LEASE, -math.inf  # at once for the next probe
        self._renew(cell, store, began)
        told += self._ask(cell, store)
        if cell.heard_at < began:
            told += self._step(cell, Look(), store).transitions
        cell.serve_waiters(self._now())
        return told

    def _gather(self, cell: Cell, now: float) -> Report | None:
        """The outcomes since the last turn. For a fleet they also wait in the backlog until it has them."""
        gate = cell.gate
        report, durations = gate.drain()
        if self.remote is not None:
            count_refusals(cell)
            count_durations(cell, durations)
        if not (report.successes or report.failures):
            return None
        if self.remote is None:
            return report
        count_calls(cell, report.successes + report.failures, report.failures)
        # Without Redis a process lives in a sub-state of the fleet's last epoch and admits under that.
        epoch = gate.epoch if cell.lost is None else cell.fleet_epoch
        shared = replace(report, epoch=epoch, process=self.name, sequence=cell.numbered(now))
        last = cell.backlog[-1] if cell.backlog else None
        if last and cell.lost and last.made_at > cell.lost.at and now - last.made_at < 1.0:
            cell.backlog[-1] = Batch(rules.joined(last.report, shared), last.made_at)
        else:
            cell.backlog.append(Batch(shared, now))
        return report

    def _renew(self, cell: Cell, store: BreakerStore, now: float) -> None:
        for probe in list(cell.running.values()):
            if now - probe.renewed_at < RENEW_EVERY:
                continue
            if now > probe.give_up_at or not self._renewed(cell, probe, store, parked=False):
                cell.running.pop(probe.token, None)
        for _ in range(len(cell.parked)):
            try:
                probe = cell.parked.popleft()  # out of the callers' reach while it is in question
            except IndexError:
                return
            if now - probe.renewed_at < RENEW_EVERY or self._renewed(cell, probe, store, parked=True):
                cell.parked.append(probe)

    def _renewed(self, cell: Cell, probe: Probe, store: BreakerStore, *, parked: bool) -> bool:
        asked = self._now()
        accepted = (
            self._step(cell, RenewProbe(probe.token, parked), store).accepted
            and cell.gate.epoch == probe.epoch
        )
        if accepted:
            probe.renewed_at, probe.valid_until = asked, asked + LEASE
        return accepted

    def _ask(self, cell: Cell, store: BreakerStore) -> tuple[Transition, ...]:
        now = self._now()
        if cell.waiters:
            cell.wanted_until = max(cell.wanted_until, now + LEASE)
        if not cell.asks_for_probe(now):
            return ()
        cell.asked_at = now
        token = secrets.token_hex(8)
        outcome = self._step(cell, AskProbe(token), store)
        if outcome.accepted:
            cell.parked.append(Probe(token, cell.gate.epoch, now + LEASE, now))
        return outcome.transitions

    def _step(self, cell: Cell, event: Event, store: BreakerStore) -> Outcome:
        """One event to the store, its answer into the cell."""
        return self._take(cell, event, store.apply(cell.name, cell.config, event, cell.host), store)

    def _take(self, cell: Cell, event: Event, outcome: Outcome, store: BreakerStore) -> Outcome:
        """The store's answer into the cell. A store that forgot is told first, and asked again."""
        if store.remote:
            if cell.lost_by(outcome):
                for known in cell.last_known(self._now()):
                    store.apply(cell.name, cell.config, known, cell.host)
                outcome = store.apply(cell.name, cell.config, event, cell.host)
            cell.fleet, cell.fleet_at = outcome, self._now()
            cell.adopt(outcome.declared)
        cell.hear(outcome, self._now())
        return outcome

    # Redis goes and comes back ------------------------------------------------------------------------

    def _lose(self, cell: Cell, shard: str, error: StoreUnavailableError) -> None:
        """Go on locally from the last state heard, with this breaker and all that are kept beside it."""
        with self._lock:
            now = self._now()
            if self.remote is None or cell.lost is not None:
                return
            for other in list(self._cells.values()):
                if other is cell or (other.lost is None and self.remote.shard(other.name) == shard):
                    self._detach(other, shard, now)
            self._away[shard] = now + RETRY_EVERY
        logger.warning(
            "breakers.redis_away",
            extra={"error": str(error), "node": shard, "going_on": "with local breakers"},
        )

    def _detach(self, cell: Cell, shard: str, now: float) -> None:
        """Decide this breaker here from now on. ``cell.lost`` comes last: whoever sees it finds a state."""
        known = quorum.on_its_own(cell.known, cell.host)
        passed = math.floor((now - cell.fleet_at) * 1000) if cell.fleet else 0
        self.memory.seed(cell.name, cell.config, known, (cell.fleet.now if cell.fleet else 0) + passed)
        cell.parked.clear()
        for batch in list(cell.backlog):
            evidence = replace(batch.report, epoch=known.epoch, process="", sequence=0)
            self.memory.apply(cell.name, cell.config, evidence, cell.host)
        cell.heard_at = -math.inf  # the next turn looks
        cell.lost = Lost(shard, now)

    def _try_to_return(self, shard: str) -> None:
        """Take over the fleet's state and submit what happened meanwhile, if Redis answers."""
        cells = self._lost_with(shard)
        try:
            if cells and self.remote is not None:
                self.remote.apply(cells[0].name, None, Look())
        except StoreUnavailableError:
            self._away[shard] = self._now() + RETRY_EVERY
            return
        while not self._all_found(shard):
            self._bring_back(self._lost_with(shard))
        if cells:
            logger.info("breakers.redis_back", extra={"node": shard})

    def _lost_with(self, shard: str) -> list[Cell]:
        return [cell for cell in self._all_cells() if cell.lost and cell.lost.shard == shard]

    def _all_found(self, shard: str) -> bool:
        """End the absence, unless a breaker was made meanwhile, which was then lost from the beginning."""
        with self._lock:
            if self._lost_with(shard):
                return False
            self._away.pop(shard, None)
            return True

    def _bring_back(self, cells: Sequence[Cell]) -> None:
        oldest = self._now()
        for cell in cells:
            with cell.turn:
                self._gather(cell, oldest)  # outcomes under local epochs: into the backlog, as evidence
                kept = [
                    batch for batch in cell.backlog if oldest - batch.made_at <= cell.config.window_seconds
                ]
                cell.backlog.clear()
                cell.backlog.extend(kept)
                cell.settled.clear()
                cell.parked.clear()
                cell.heard_at = -math.inf
                cell.lost = None

    def _tell(self, cell: Cell, transitions: Sequence[Transition]) -> None:
        log_transitions(cell.name, transitions, shared=not self.is_local(cell))
        announce(cell, transitions)

    def _all_cells(self) -> list[Cell]:
        return list(self._cells.values())

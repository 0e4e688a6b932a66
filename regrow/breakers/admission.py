"""Who may call: a breaker's way in, from the gate it last heard of to leave for a probe, and back out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
from types import TracebackType
from typing import Self

from regrow.breakers.cell import FAILED, SLOW, Cell, Gate, Probe
from regrow.breakers.reporter import Reporter
from regrow.breakers.rules import BreakerConfig, ProbeResult, State
from regrow.clock import timer
from regrow.errors import CircuitOpenError, DegradedError
from regrow.matching import Matcher, matches

logger = logging.getLogger("regrow.breakers")

chance = random.random


class Permit:
    """Leave to make one call. Settle it once: what comes after the first word is ignored.

    Also a context manager: ``with breaker.admit(): ...``.
    """

    __slots__ = ("_breaker", "_gate", "_probe", "_settled", "_started")

    def __init__(self, breaker: Admission, gate: Gate, probe: Probe | None) -> None:
        self._breaker = breaker
        self._gate = gate
        self._probe = probe
        self._settled = False
        self._started = timer.monotonic()

    def success(self, took: float | None = None) -> None:
        """The call did what it should; later than ``timeout`` it counts as failed all the same.

        ``took``: its seconds, when they are not those since it was admitted.
        """
        config = self._breaker.config
        if took is None:
            took = timer.monotonic() - self._started
        if config.is_late(took):
            self._settle(ProbeResult.FAILURE, took)
        else:
            self._settle(ProbeResult.SLOW if config.is_slow(took) else ProbeResult.SUCCESS, took)

    def failure(self, error: BaseException | None = None) -> None:
        """The call failed. With ``error``, only if the breaker counts such errors; else it is a release."""
        self._settle(ProbeResult.FAILURE if error is None else self._breaker.judge(error))

    @property
    def is_probe(self) -> bool:
        """Whether the breaker is not closed and this call finds out for all."""
        return self._probe is not None

    def release(self) -> None:
        """Give the permit back unscored: the call was not made, was cancelled, or says nothing."""
        self._settle(ProbeResult.RELEASE)

    def _settle(self, result: ProbeResult, took: float | None = None) -> None:
        if self._settled:
            return
        self._settled = True
        if took is None:
            took = timer.monotonic() - self._started
        cell, reporter = self._breaker._cell, self._breaker._reporter  # noqa: SLF001 - two halves of one thing
        if self._probe is not None:
            cell.settle_probe(self._probe, result, took)
            reporter.report_now(cell)  # whatever the result: the fleet waits for it
        elif result is ProbeResult.SUCCESS:
            self._gate.record(took)
            if reporter.idle:
                reporter.wake()
        elif result is not ProbeResult.RELEASE:
            config = self._breaker.config
            slow = result is ProbeResult.SLOW or config.is_slow(took)
            self._gate.record(
                ((FAILED if result is ProbeResult.FAILURE else 0) | (SLOW if slow else 0), took)
            )
            reporter.report_now(cell)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.success()
        else:
            self.failure(error)


class Admission:
    """A breaker as those see it who ask to call. :class:`regrow.breakers.CircuitBreaker` makes it whole."""

    name: str
    keys_count: bool
    _record: tuple[Matcher, ...]
    _ignore: tuple[Matcher, ...]
    _probe_wait: float
    _reporter: Reporter
    _cell: Cell

    # The state ----------------------------------------------------------------------------------------

    @property
    def config(self) -> BreakerConfig:
        return self._cell.config

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``, as this process last heard it: no I/O.

        At most 2 s old while Redis answers, but for the first read, which only asks.
        """
        self._reporter.freshen(self._cell)
        return self._cell.gate.state_at(timer.monotonic()).value

    @property
    def epoch(self) -> int:
        """The number of the current state; grows with every transition."""
        return self._cell.gate.epoch

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self._cell.gate.state_at(timer.monotonic()).value}>"

    # In and out ---------------------------------------------------------------------------------------

    def judge(self, error: BaseException) -> ProbeResult:
        """What an error says about the remote side: a failure, or nothing.

        Where a function that should know raises, an error counts: the caller sees the error all the same.
        """
        if isinstance(error, CircuitOpenError | DegradedError):  # another refusal: nothing was called
            return ProbeResult.RELEASE
        try:
            counts = matches(error, self._record) and not matches(error, self._ignore)
        except Exception:
            logger.exception("breakers.judge_failed", extra={"breaker": self.name})
            counts = isinstance(error, Exception)
        return ProbeResult.FAILURE if counts else ProbeResult.RELEASE

    def admit(self) -> Permit:
        """Leave for one call, or CircuitOpenError. The caller settles the permit."""
        cell = self._cell
        gate = cell.gate
        if gate.admits:
            return Permit(self, gate, None)
        permit = self._at_hand()
        if permit is None and self._may_wait():
            waiter = self._reporter.wait_for_probe(cell)
            try:
                concurrent.futures.wait([waiter], self._probe_wait)
            except BaseException:  # Ctrl-C, a soft time limit
                self._let_go(waiter)
                raise
            permit = self._granted(waiter)
        return permit or self._refuse()

    async def admit_async(self) -> Permit:
        """:meth:`admit` that waits, if at all (``probe_wait``), without holding up the event loop."""
        cell = self._cell
        gate = cell.gate
        if gate.admits:
            return Permit(self, gate, None)
        permit = self._at_hand()
        if permit is None and self._may_wait():
            waiter = self._reporter.wait_for_probe(cell)
            try:
                await asyncio.wait([asyncio.wrap_future(waiter)], timeout=self._probe_wait)
            except BaseException:
                self._let_go(waiter)
                raise
            permit = self._granted(waiter)
        return permit or self._refuse()

    def _at_hand(self) -> Permit | None:
        if self._cell.is_closed:
            return self._rising(self._cell.gate)
        if not self._cell.gate.heard:
            self._reporter.freshen(self._cell)
            gate = self._cell.gate
            if gate.state is State.CLOSED:
                return Permit(self, gate, None)
        probe = self._reporter.seek_probe(self._cell)
        if probe is not None:
            return Permit(self, self._cell.gate, probe)
        gate = self._cell.gate
        return self._rising(gate) if self._cell.is_closed else None

    def _rising(self, gate: Gate) -> Permit:
        """Leave of a breaker that has closed; CircuitOpenError while others come first."""
        wait = gate.turned_away(timer.monotonic(), chance())
        return self._refuse(wait) if wait else Permit(self, gate, None)

    def _may_wait(self) -> bool:
        return self._probe_wait > 0 and timer.monotonic() >= self._cell.gate.reopens_at

    def _granted(self, waiter: concurrent.futures.Future[Probe | None]) -> Permit | None:
        """What came of waiting; a lease that arrives in this very moment is not lost."""
        if waiter.cancel():
            return None
        probe = waiter.result(1.0)
        gate = self._cell.gate
        if probe is None:
            return self._rising(gate) if self._cell.is_closed else None
        return Permit(self, gate, probe)

    def _let_go(self, waiter: concurrent.futures.Future[Probe | None]) -> None:
        """Nobody waits any more; a lease that arrives in this very moment goes back."""
        if not waiter.cancel() and (probe := waiter.result(1.0)) is not None:
            Permit(self, self._cell.gate, probe).release()

    def _refuse(self, ramp: float | None = None) -> Permit:
        """``ramp``: seconds until a breaker that has closed lets this call back in."""
        self._cell.refusals.note()
        if ramp is not None:
            raise CircuitOpenError(self.name, ramp, recovering=True)
        raise CircuitOpenError(self.name, self._cell.retry_after(timer.monotonic()))

"""How often a configuration would have alerted: the burn rules, minute by minute, over spans. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from regrow.slo.burn import PAGES, TABLE, Promise, Severity, firing
from regrow.slo.ledger import NOTHING, Ledger, Span, State

STEP = timedelta(minutes=1)
_REACH = max(rule.short for rule in TABLE)


@dataclass(frozen=True, slots=True)
class Fired:
    """A stretch of time in which one rule fired without a pause."""

    severity: Severity
    began: datetime
    ended: datetime

    @property
    def pages(self) -> bool:
        return self.severity in PAGES


@dataclass(frozen=True, slots=True)
class Backtest:
    """What would have fired over ``[start, end)``. A rule that fires again within an hour goes on."""

    objective: str
    start: datetime
    end: datetime
    fired: tuple[Fired, ...]

    def count(self, severity: Severity) -> int:
        return sum(one.severity == severity for one in self.fired)

    @property
    def pages(self) -> int:
        """How often somebody would have been called; what becomes more severe calls once."""
        times = sorted((one.began, one.ended) for one in self.fired if one.pages)
        calls = 0
        until: datetime | None = None
        for began, ended in times:
            calls += until is None or began > until
            until = ended if until is None else max(until, ended)
        return calls


class History:
    """Sums over spans up to any moment, so that an account of any window is two look-ups."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._starts = [span.start for span in spans]
        self._first = _first_asked(spans)
        self._spans = spans
        self._down, self._eligible = [NOTHING], [NOTHING]
        for span in spans:
            self._down.append(self._down[-1] + (span.length if span.state is State.DOWN else NOTHING))
            counts = span.state not in {State.MAINTENANCE, State.PAUSED}
            self._eligible.append(self._eligible[-1] + (span.length if counts else NOTHING))

    def over(self, start: datetime, end: datetime) -> Ledger:
        """Downtime and the time that counts; what counts and was not down is told as unknown."""
        (down, eligible), (earlier_down, earlier) = self._until(end), self._until(start)
        down, eligible = down - earlier_down, eligible - earlier
        young = max(min(self._first, end) - start, NOTHING)
        return Ledger(down=down, unknown=eligible - down, paused=young, young=young)

    def _until(self, moment: datetime) -> tuple[timedelta, timedelta]:
        index = bisect_right(self._starts, moment)
        if index == 0:
            return NOTHING, NOTHING
        span = self._spans[index - 1]
        over = max(NOTHING, span.end - moment)
        down = self._down[index] - (over if span.state is State.DOWN else NOTHING)
        aside = span.state in {State.MAINTENANCE, State.PAUSED}
        return down, self._eligible[index] - (NOTHING if aside else over)


def backtest(
    promise: Promise,
    cuts: Sequence[Sequence[Span]],
    confirmed: Sequence[tuple[datetime, datetime]],
    start: datetime,
    end: datetime,
) -> Backtest:
    """The rules looked at each minute of ``[start, end)``, over spans that reach as far back as there are.

    ``cuts``: those of each of its checks, whose time adds up. ``confirmed``: when one was confirmed down.
    """
    histories = [History(cut) for cut in cuts]
    open_: dict[Severity, list[datetime]] = {}
    fired: list[Fired] = []
    for moment in _moments(_downtime(cuts), start, end):
        down = any(began <= moment < ended for began, ended in confirmed)

        def over(length: timedelta, moment: datetime = moment) -> Ledger:
            return sum((h.over(moment - length, moment) for h in histories), Ledger())

        for severity in {one.severity for one in firing(promise, over, confirmed_down=down)}:
            stretch = open_.get(severity)
            if stretch is not None and moment - stretch[1] > timedelta(hours=1):
                fired.append(Fired(severity, stretch[0], stretch[1] + STEP))
                stretch = None
            if stretch is None:
                stretch = open_[severity] = [moment, moment]
            stretch[1] = moment
    fired += [Fired(severity, began, last + STEP) for severity, (began, last) in open_.items()]
    fired.sort(key=lambda one: (one.began, one.severity))
    return Backtest(promise.name, start, end, tuple(fired))


def _first_asked(spans: Sequence[Span]) -> datetime:
    """Where the spans begin, after a pause that they begin with."""
    if not spans:
        return datetime.min.replace(tzinfo=UTC)
    return spans[0].end if spans[0].state is State.PAUSED else spans[0].start


def _downtime(cuts: Iterable[Sequence[Span]]) -> list[Span]:
    """The downtime of all of them, in order of its beginning."""
    return sorted((s for cut in cuts for s in cut if s.state is State.DOWN), key=lambda s: s.start)


def _moments(down: Sequence[Span], start: datetime, end: datetime) -> list[datetime]:
    """The minutes at which a short window can hold downtime; no rule fires at others."""
    found: list[datetime] = []
    moment = start
    for span in down:
        if span.end + _REACH <= moment:
            continue
        if span.start > moment:
            moment += STEP * -(-(span.start - moment) // STEP)
        while moment < min(span.end + _REACH, end):
            found.append(moment)
            moment += STEP
    return found


__all__ = ["Backtest", "Fired", "History", "backtest"]

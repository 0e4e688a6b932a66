"""From what checks found to a level: values and pure functions, no I/O.

A score is a share of 100, and it has two ends, because unknown is neither healthy nor down: ``low`` counts
what is unknown as down, ``high`` as healthy. Between two levels lies a boundary. It is crossed downwards when
even ``high`` is below it, and upwards when even ``low`` is above it: so what is unknown neither takes
features away nor gives them back. But for the boundaries above ``when_unknown``: there ``low`` alone decides,
so that nothing stays normal on the strength of what is not known.

Times are ms of one clock (Redis'); each boundary must be beyond its margin for a while, without a pause.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from regrow.degradation.levels import LEVELS, Level

Moments = tuple[int | None, int | None, int | None, int | None]
NEVER: Moments = (None, None, None, None)

_VALUES = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}
_SHOWN = 5


@dataclass(frozen=True)
class Reading:
    """What one check says. ``status``: healthy, degraded, unhealthy; anything else is unknown."""

    name: str
    status: str
    weight: float = 1.0
    required: bool = False


@dataclass(frozen=True)
class Score:
    """Of 100. ``pulls``: (check, status, the points it costs at worst), dearest first.

    ``required_down``: a required check is unhealthy; ``required_doubtful``: unhealthy or unknown.
    """

    low: float
    high: float
    pulls: tuple[tuple[str, str, float], ...] = ()
    required_down: bool = False
    required_doubtful: bool = False

    def __str__(self) -> str:
        both = f"{self.low:.0f}" if self.low == self.high else f"{self.low:.0f} to {self.high:.0f}"
        told = [f"{name} {status}" for name, status, _ in self.pulls[:_SHOWN]]
        if len(self.pulls) > _SHOWN:
            told.append(f"{len(self.pulls) - _SHOWN} more")
        return f"score {both} of 100" + (f": {', '.join(told)}" if told else "")


NOTHING_KNOWN = Score(0.0, 100.0, required_doubtful=True)


@dataclass(frozen=True)
class Rules:
    """``thresholds``: at or below the first it is minor, then moderate, severe, critical. Times in ms.

    ``required_down``: at least this level while a required check is unhealthy. ``longest_gap``: readings
    further apart than this do not count as an unbroken series.
    """

    thresholds: tuple[float, float, float, float] = (95.0, 80.0, 60.0, 40.0)
    margin: float = 1.0
    worsen_after: int = 30_000
    improve_after: int = 120_000
    when_unknown: Level = Level.MINOR
    required_down: Level = Level.MODERATE
    longest_gap: int = 60_000


@dataclass(frozen=True)
class Course:
    """The level that the score has led to. ``since``: when each boundary began to want to change sides."""

    level: Level
    at: int
    since: Moments = NEVER


def score_of(readings: Iterable[Reading]) -> Score:
    """The weighted score; of nothing at all, nothing is known. Weights of 0 do not count."""
    counted = [reading for reading in readings if reading.weight > 0]
    total = sum(reading.weight for reading in counted)
    if not total:
        return NOTHING_KNOWN
    low = high = 0.0
    pulls = []
    for reading in counted:
        value = _VALUES.get(reading.status)
        low += reading.weight * (value or 0.0)
        high += reading.weight * (1.0 if value is None else value)
        if value != 1.0:
            cost = 100 * reading.weight * (1.0 - (value or 0.0)) / total
            pulls.append((reading.name, reading.status, round(cost, 2)))
    required = [reading.status for reading in counted if reading.required]
    return Score(
        low=100 * low / total,
        high=100 * high / total,
        pulls=tuple(sorted(pulls, key=lambda pull: (-pull[2], pull[0]))),
        required_down="unhealthy" in required,
        required_doubtful=any(status not in {"healthy", "degraded"} for status in required),
    )


def step(before: Course | None, score: Score, rules: Rules, now: int) -> Course:
    """The course after one more score. Without one before, the score alone says where it begins."""
    if before is None:
        rank = sum(_wants_down(boundary, score, rules, 0.0) for boundary in range(4))
        return Course(LEVELS[rank], now)
    unbroken = 0 <= now - before.at <= rules.longest_gap
    since = _since(before, score, rules, now, unbroken=unbroken)
    rank = before.level.rank
    while rank < 4 and _lasted(since[rank], now, rules.worsen_after):
        rank += 1
    if rank == before.level.rank:
        while rank > 0 and _lasted(since[rank - 1], now, rules.improve_after):
            rank -= 1
    low, high = sorted((rank, before.level.rank))
    kept = [None if low <= boundary < high else moment for boundary, moment in enumerate(since)]
    return Course(LEVELS[rank], now, (kept[0], kept[1], kept[2], kept[3]))


def rest(before: Course, now: int) -> Course:
    """The course that goes on while by plan nothing is measured; afterwards its clocks begin again."""
    return Course(before.level, now)


def _since(before: Course, score: Score, rules: Rules, now: int, *, unbroken: bool) -> Sequence[int | None]:
    """When each boundary began to want to change sides; None where it does not."""
    found: list[int | None] = []
    for boundary, began in enumerate(before.since):
        crossed = boundary < before.level.rank
        wants = (
            _wants_up(boundary, score, rules)
            if crossed
            else _wants_down(boundary, score, rules, rules.margin)
        )
        found.append((began if unbroken and began is not None else now) if wants else None)
    return found


def _wants_down(boundary: int, score: Score, rules: Rules, margin: float) -> bool:
    limit = rules.thresholds[boundary] - margin
    held_down = boundary < rules.required_down.rank
    if score.high <= limit or (held_down and score.required_down):
        return True
    doubted = boundary < rules.when_unknown.rank
    return doubted and (score.low <= limit or (held_down and score.required_doubtful))


def _wants_up(boundary: int, score: Score, rules: Rules) -> bool:
    held_down = boundary < rules.required_down.rank and score.required_doubtful
    return not held_down and score.low > rules.thresholds[boundary] + rules.margin


def _lasted(since: int | None, now: int, long: int) -> bool:
    return since is not None and now - since >= long

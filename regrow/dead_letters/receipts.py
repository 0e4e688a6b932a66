"""Which numbers of a source have been received: a watermark, and ranges beyond it. Pure.

A source numbers its entries 1, 2, 3, ... and keeps each until the watermark has passed it. Entries arrive in
any order and more than once. What is not written down here (there is a bound) is only sent once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_RANGES = 100

Range = tuple[int, int]
"""First and last number, both included."""


@dataclass(frozen=True)
class Received:
    """All up to ``watermark``, and the ranges beyond it: in order, apart from each other and from it."""

    watermark: int = 0
    beyond: tuple[Range, ...] = ()

    @property
    def gaps(self) -> tuple[Range, ...]:
        """The numbers that are missing below some that came."""
        found, last = [], self.watermark
        for first, end in self.beyond:
            found.append((last + 1, first - 1))
            last = end
        return tuple(found)

    @property
    def missing(self) -> int:
        """How many numbers the gaps hold."""
        return sum(last - first + 1 for first, last in self.gaps)


def receive(received: Received, numbers: Iterable[Range]) -> Received:
    """With these numbers too. Beyond 100 ranges the farthest are not written down: they will come again."""
    watermark = received.watermark
    ranges: list[Range] = []
    for first, last in sorted([*received.beyond, *numbers]):
        if last < first or last <= watermark:
            continue
        if first <= watermark + 1 and not ranges:
            watermark = last
        elif ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], last))
        else:
            ranges.append((first, last))
    return Received(watermark, tuple(ranges[:MOST_RANGES]))


def count_new(received: Received, ranges: Iterable[Range]) -> int:
    """How many of these numbers were not received before."""
    return sum(_covered(receive(received, [each])) - _covered(received) for each in ranges)


def as_ranges(numbers: Iterable[int]) -> list[Range]:
    """Numbers as ranges, in order."""
    found: list[Range] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _covered(received: Received) -> int:
    return received.watermark + sum(last - first + 1 for first, last in received.beyond)

"""Durations in logarithmic buckets: few numbers that add up, and percentiles that stay right.

A bucket is 4% wide, so that a percentile is within 2% of the exact one. Buckets of minutes, processes or
services are merged by adding their counts; means of percentiles would lie. Only those that were hit are kept.

Pure, and nothing but the standard library: applications use it, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate

FACTOR = 1.04
SHORTEST, LONGEST = 1e-4, 86_400.0
"""Seconds; what is beyond them is counted at the end."""

Buckets = Mapping[int, int]
"""How many durations were in each bucket: bucket n holds those from 1.04^n to below 1.04^(n+1) seconds."""

_LOG = math.log(FACTOR)
LOWEST, HIGHEST = math.floor(math.log(SHORTEST) / _LOG), math.floor(math.log(LONGEST) / _LOG)


def bucket_of(seconds: float) -> int:
    """The bucket that a duration belongs to."""
    if seconds <= SHORTEST:
        return LOWEST
    return min(math.floor(math.log(seconds) / _LOG), HIGHEST)


def middle_of(bucket: int) -> float:
    """The geometric middle of a bucket, in seconds: at most 2% from anything in it."""
    return math.exp((bucket + 0.5) * _LOG)


def merged(parts: Iterable[Buckets]) -> dict[int, int]:
    """All of them added up."""
    total: dict[int, int] = {}
    for part in parts:
        for bucket, count in part.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def percentile(buckets: Buckets, share: float) -> float | None:
    """Seconds within which this ``share`` (0 to 1, above 0) of all durations lay; None when there are none.

    By nearest rank: of 20 durations, the 95th percentile is the 19th. ValueError for another share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"{share!r} is no share of durations; give more than 0 and at most 1")
    total = sum(buckets.values())
    # 0.95 * 20 is 19.000000000000004 for some shares: a rank is not one more because of the last bit.
    rank = max(1, math.ceil(round(share * total, 6)))
    so_far = 0
    for bucket in sorted(buckets):
        so_far += buckets[bucket]
        if so_far >= rank and so_far:
            return middle_of(bucket)
    return None


def longer_than(buckets: Buckets, seconds: float) -> int:
    """How many durations were longer; those in the same bucket as ``seconds`` by the bucket's middle."""
    return sum(count for bucket, count in buckets.items() if middle_of(bucket) > seconds)


def to_text(buckets: Buckets) -> str:
    """Compact, for one column or one message: ``-18*3 2*1``, each bucket told by its distance to the last."""
    last, told = 0, []
    for bucket in sorted(buckets):
        if buckets[bucket]:
            told.append(f"{bucket - last}*{buckets[bucket]}")
            last = bucket
    return " ".join(told)


def from_text(text: str) -> dict[int, int]:
    """What :func:`to_text` wrote; ValueError for anything else."""
    if not text:
        return {}
    if not _TOLD.fullmatch(text):
        raise ValueError(f"{text[:100]!r} tells of no buckets")
    numbers = list(map(int, text.replace("*", " ").split()))
    buckets, counts = list(accumulate(numbers[::2])), numbers[1::2]
    found = dict(zip(buckets, counts, strict=True))
    if len(found) < len(buckets) or min(counts) < 1 or min(buckets) < LOWEST or max(buckets) > HIGHEST:
        raise ValueError(f"{text[:100]!r} tells of no buckets")
    return found


_TOLD = re.compile(r"-?[0-9]+\*[0-9]+(?: -?[0-9]+\*[0-9]+)*")

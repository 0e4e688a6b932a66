"""Mergeable buckets: percentiles within 2% of the exact ones, whatever was merged."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.latency_buckets import (
    FACTOR,
    HIGHEST,
    LOWEST,
    bucket_of,
    from_text,
    longer_than,
    merged,
    middle_of,
    percentile,
    to_text,
)


def counted(durations):
    buckets: dict[int, int] = {}
    for seconds in durations:
        bucket = bucket_of(seconds)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    return buckets


@given(st.floats(min_value=2e-4, max_value=80_000))
def test_a_duration_is_within_2_percent_of_the_middle_of_its_bucket(seconds):
    assert middle_of(bucket_of(seconds)) == pytest.approx(seconds, rel=0.0201)
    assert FACTOR ** bucket_of(seconds) <= seconds * (1 + 1e-9)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 1.0])
def test_percentiles_of_merged_buckets_are_within_2_percent_of_exact_on_skewed_data(share):
    rng = random.Random(7)
    parts = [
        [rng.lognormvariate(mu, 1.2) for _ in range(number)]
        for mu, number in ((-3, 5_000), (-1, 300), (1.5, 41))
    ]
    every = sorted(seconds for part in parts for seconds in part)
    exact = every[math.ceil(share * len(every)) - 1]
    assert percentile(merged(map(counted, parts)), share) == pytest.approx(exact, rel=0.0201)


def test_the_mean_of_hourly_percentiles_lies_where_merged_buckets_do_not():
    quiet, busy = [0.01] * 10 + [5.0], [0.01] * 10_000
    both = merged([counted(quiet), counted(busy)])
    assert percentile(both, 0.95) == pytest.approx(0.01, rel=0.02)
    assert (percentile(counted(quiet), 0.95) + percentile(counted(busy), 0.95)) / 2 > 2


def test_the_95th_of_20_durations_is_the_19th_and_of_none_is_not_known():
    buckets = counted([0.1] * 18 + [1.0, 9.0])
    assert percentile(buckets, 0.95) == pytest.approx(1.0, rel=0.02)
    assert percentile({}, 0.95) is None
    for share in (0, 1.01, math.nan):
        with pytest.raises(ValueError, match="no share"):
            percentile(buckets, share)


def test_what_took_no_time_or_for_ever_is_counted_at_the_ends():
    assert [bucket_of(seconds) for seconds in (0.0, -1.0, 1e9)] == [LOWEST, LOWEST, HIGHEST]


def test_longer_than_counts_whole_buckets():
    assert longer_than(counted([0.1, 0.2, 0.6, 7.0]), 0.5) == 2


@given(st.dictionaries(st.integers(LOWEST, HIGHEST), st.integers(1, 10**12)))
def test_their_text_tells_all_of_them(buckets):
    assert from_text(to_text(buckets)) == buckets


def test_the_text_is_compact_and_anything_else_is_refused():
    assert to_text(counted([0.5] * 3 + [0.53])) == "-18*3 1*1"
    assert from_text("") == {}
    for text in ("5", "x*1", "1*0", "1*-2", "0*1 0*1", "99999*1", "1 2*3 4", "1*1  1*1", " 1*1", "1*1*1"):
        with pytest.raises(ValueError):
            from_text(text)

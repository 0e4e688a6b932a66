"""The time ledger: time adds up, unknown is never up, nothing is printed more exactly than known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.slo import ledger as rules
from regrow.slo.ledger import Ledger, Mask, Sample, State

START = datetime(2026, 3, 1, 11, tzinfo=UTC)
END = START + timedelta(hours=1)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def every_minute(status: str = "healthy", *, between: tuple[int, int] = (-1, 60)) -> list[Sample]:
    return [Sample(at(minute), status, 60.0) for minute in range(*between)]


samples_of_any_kind = st.lists(
    st.builds(
        Sample,
        at=st.integers(-7_200_000_000, 7_200_000_000).map(lambda us: START + timedelta(microseconds=us)),
        status=st.sampled_from(["healthy", "degraded", "unhealthy", "unknown", "on fire"]),
        interval=st.floats(0.001, 7200),
    ),
    max_size=40,
    unique_by=lambda sample: sample.at,
)


def state_by_looking(samples: list[Sample], moment: datetime) -> State:
    """What the docstring says, for a single moment: the slow way that cannot be got wrong."""
    before = [sample for sample in samples if sample.at <= moment]
    if not before:
        return State.UNKNOWN
    latest = max(before, key=lambda sample: sample.at)
    if moment >= latest.at + 2 * timedelta(seconds=latest.interval):
        return State.UNKNOWN
    return latest.state


@given(samples_of_any_kind)
def test_up_down_and_unknown_add_up_to_the_window_to_the_microsecond(samples: list[Sample]) -> None:
    account = rules.ledger(samples, START, END)
    assert account.up + account.down + account.unknown == END - START
    assert timedelta(0) <= account.degraded <= account.up


@given(samples_of_any_kind)
def test_spans_cover_the_window_without_gap_or_overlap_and_never_repeat_a_state(
    samples: list[Sample],
) -> None:
    cut = rules.spans(samples, START, END)
    assert cut[0].start == START
    assert cut[-1].end == END
    for before, after in pairwise(cut):
        assert before.end == after.start
        assert before.state is not after.state


@given(samples_of_any_kind, st.integers(0, 3_599_999_999))
def test_every_moment_is_in_the_state_of_the_sample_that_holds_then(samples: list[Sample], us: int) -> None:
    moment = START + timedelta(microseconds=us)
    (span,) = [s for s in rules.spans(samples, START, END) if s.start <= moment < s.end]
    assert span.state is state_by_looking(samples, moment)


@given(samples_of_any_kind)
def test_the_uptime_lies_within_its_bounds(samples: list[Sample]) -> None:
    account = rules.ledger(samples, START, END)
    low, high = account.bounds
    assert 0 <= low <= high <= 1
    if account.uptime is None:
        assert account.up + account.down == timedelta(0)
    else:
        assert low - 1e-12 <= account.uptime <= high + 1e-12


@given(samples_of_any_kind)
def test_a_part_of_the_strip_is_up_only_if_every_moment_of_it_was(samples: list[Sample]) -> None:
    cut = rules.spans(samples, START, END)
    parts = rules.strip(cut, START, END, 30)
    length = (END - START) / 30
    assert len(parts) == 30
    for number, state in enumerate(parts):
        begins, ends = START + number * length, START + (number + 1) * length
        inside = {span.state for span in cut if span.start < ends and span.end > begins}
        worst_first = (State.DOWN, State.UNKNOWN, State.DEGRADED, State.UP)
        assert state is next(worst for worst in worst_first if worst in inside)


def test_the_last_sample_before_the_window_holds_into_it() -> None:
    account = rules.ledger([Sample(at(-1), "unhealthy", 60.0)], START, END)
    assert account.down == timedelta(minutes=1)
    assert account.unknown == timedelta(minutes=59)
    assert account.probes == 0


def test_a_silent_monitor_makes_the_rest_unknown_after_two_intervals() -> None:
    account = rules.ledger(every_minute(between=(0, 30)), START, END)
    assert account.up == timedelta(minutes=31)  # the last one holds for two minutes
    assert account.unknown == timedelta(minutes=29)
    assert account.uptime == 1.0
    assert account.bounds == (31 / 60, 1.0)
    assert rules.uptime_words(account) == "insufficient data"
    assert rules.target_met(account, 0.999) is None


def test_no_data_is_no_uptime() -> None:
    account = rules.ledger([], START, END)
    assert account.uptime is None
    assert account.coverage == 0
    assert account.bounds == (0, 1)
    assert rules.uptime_words(account) == "unknown"
    assert rules.target_met(account, 0.5) is None
    assert rules.confidence_low(account) is None


def test_a_status_that_nobody_knows_is_unknown_not_up() -> None:
    assert rules.ledger(every_minute("excellent"), START, END).unknown == timedelta(hours=1)


def test_degraded_counts_as_up_and_is_told_apart() -> None:
    account = rules.ledger(every_minute("degraded"), START, END)
    assert account.up == account.degraded == timedelta(hours=1)


def test_outages_are_counted_as_stretches_not_as_samples() -> None:
    down = {10, 11, 12, 40}
    samples = [Sample(at(m), "unhealthy" if m in down else "healthy", 60.0) for m in range(-1, 60)]
    found = rules.outages(rules.spans(samples, START, END))
    assert found == [timedelta(minutes=3), timedelta(minutes=1)]


def test_sixty_probes_without_a_failure_are_not_printed_as_three_nines() -> None:
    account = rules.ledger(every_minute(), START, END)
    assert rules.uptime_words(account) == "100%"
    low = rules.confidence_low(account)
    assert low is not None
    assert 0.93 < low < 0.95  # the textbook's Wilson bound of 60 of 60 is 0.9398


def test_an_uptime_is_rounded_down_never_up_to_a_hundred() -> None:
    samples = [Sample(at(0), "unhealthy", 60.0)] + [
        Sample(at(0.001) + timedelta(seconds=s), "healthy", 60.0) for s in range(3600)
    ]
    account = rules.ledger(samples, START, END)
    assert account.down == timedelta(milliseconds=60)
    assert rules.uptime_words(account) == "99.99%"


@given(samples_of_any_kind)
def test_only_a_window_without_downtime_is_printed_as_a_hundred_percent(samples: list[Sample]) -> None:
    account = rules.ledger(samples, START, END)
    words = rules.uptime_words(account)
    if words.startswith("100"):
        assert words == "100%"
        assert account.down == timedelta(0)


@pytest.mark.parametrize(("target", "met"), [(0.98, True), (0.99, False)])
def test_a_target_is_met_or_missed_by_the_known_time(target: float, met: bool) -> None:
    samples = [Sample(at(m), "unhealthy" if m == 5 else "healthy", 60.0) for m in range(-1, 60)]
    assert rules.target_met(rules.ledger(samples, START, END), target) is met


masks_of_any_kind = st.lists(
    st.builds(
        lambda begins, length, state: Mask(
            START + timedelta(microseconds=begins), START + timedelta(microseconds=begins + length), state
        ),
        st.integers(-1_800_000_000, 3_600_000_000),
        st.integers(0, 3_600_000_000),
        st.sampled_from([State.MAINTENANCE, State.PAUSED]),
    ),
    max_size=6,
)


@given(samples_of_any_kind, masks_of_any_kind)
def test_all_five_parts_add_up_to_the_window_and_spans_to_the_account(
    samples: list[Sample], masks: list[Mask]
) -> None:
    cut = rules.spans(samples, START, END, masks)
    found = rules.account(cut, samples, START, END)
    assert found.up + found.down + found.unknown + found.maintenance + found.paused == END - START
    assert found.masked_degraded <= found.masked_up
    assert found.masked_up + found.masked_down <= found.maintenance
    assert [span.start for span in cut[1:]] == [span.end for span in cut[:-1]]
    low, high = found.bounds
    assert 0 <= low <= high <= 1


@given(samples_of_any_kind, masks_of_any_kind, st.integers(1, 3_599_999_999))
def test_accounts_of_two_halves_add_up_to_that_of_the_whole(
    samples: list[Sample], masks: list[Mask], us: int
) -> None:
    middle = START + timedelta(microseconds=us)
    halves = rules.ledger(samples, START, middle, masks) + rules.ledger(samples, middle, END, masks)
    assert halves == rules.ledger(samples, START, END, masks)


@given(samples_of_any_kind, masks_of_any_kind, st.randoms())
def test_order_and_repetition_of_samples_change_nothing(
    samples: list[Sample], masks: list[Mask], random: object
) -> None:
    mixed = samples + samples[: len(samples) // 2]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert rules.spans(mixed, START, END, masks) == rules.spans(samples, START, END, masks)
    assert rules.ledger(mixed, START, END, masks) == rules.ledger(samples, START, END, masks)


@given(samples_of_any_kind, masks_of_any_kind)
def test_without_the_exemption_maintenance_counts_as_what_was_found(
    samples: list[Sample], masks: list[Mask]
) -> None:
    only = [mask for mask in masks if mask.state is State.MAINTENANCE]
    plain, masked = rules.ledger(samples, START, END), rules.ledger(samples, START, END, only)
    opened = masked.with_maintenance()
    assert (opened.up, opened.down, opened.unknown) == (plain.up, plain.down, plain.unknown)
    assert rules.unmasked(rules.spans(samples, START, END, only)) == rules.spans(samples, START, END)


def test_maintenance_hides_what_was_found_in_it_and_keeps_it_beneath() -> None:
    samples = [Sample(at(m), "unhealthy" if 20 <= m < 40 else "healthy", 60.0) for m in range(-1, 60)]
    window = Mask(at(15), at(45), State.MAINTENANCE)
    found = rules.ledger(samples, START, END, [window])
    assert (found.down, found.maintenance, found.masked_down) == (
        timedelta(0),
        timedelta(minutes=30),
        timedelta(minutes=20),
    )
    assert found.probes == 30
    assert found.uptime == 1.0
    assert found.with_maintenance().down == timedelta(minutes=20)


def test_a_pause_excuses_silence_and_hides_no_downtime() -> None:
    samples = [Sample(at(0), "unhealthy", 60.0)]
    found = rules.ledger(samples, START, END, [Mask(START, END, State.PAUSED)])
    assert found.down == timedelta(minutes=2)
    assert found.paused == timedelta(minutes=58)
    assert found.coverage == 1.0


def test_an_hour_of_maintenance_alone_has_no_uptime_and_is_not_sufficient() -> None:
    found = rules.ledger(every_minute(), START, END, [Mask(START, END, State.MAINTENANCE)])
    assert found.uptime is None
    assert not found.sufficient
    assert found.bounds == (0.0, 1.0)
    assert rules.target_met(found, 0.9) is None


def test_two_words_at_one_moment_are_the_worse_one() -> None:
    both = [Sample(at(0), "healthy", 60.0), Sample(at(0), "unhealthy", 60.0)]
    assert rules.ledger(both, START, END) == rules.ledger(both[::-1], START, END)
    assert rules.ledger(both, START, END).down == timedelta(minutes=2)


def test_ratios_of_samples_lie_where_the_ledger_does_not() -> None:
    """A monitor that looks every minute, and every ten seconds while something is down.

    Six minutes of downtime in an hour are 36 of 90 samples: 60 % by counting, 90 % by the clock.
    """
    samples = [Sample(at(m), "healthy", 60.0) for m in range(54)]
    samples += [Sample(at(54 + n / 6), "unhealthy", 10.0) for n in range(36)]
    ratio = sum(s.state is State.UP for s in samples) / len(samples)
    assert ratio == 0.6
    assert rules.ledger(samples, START, END).uptime == 0.9


def test_a_monitor_that_dies_with_what_it_watches_is_unknown_where_a_ratio_says_a_hundred() -> None:
    """The last sample before 40 minutes of silence was well: samples say 100 %, the ledger says how little."""
    samples = every_minute(between=(0, 20))
    assert all(s.state is State.UP for s in samples)
    found = rules.ledger(samples, START, END)
    assert found.bounds == (21 / 60, 1.0)
    assert rules.uptime_words(found) == "insufficient data"


def test_the_last_bucket_is_not_replayed_over_an_empty_window() -> None:
    assert rules.ledger([Sample(at(-600), "healthy", 60.0)], START, END) == Ledger(unknown=timedelta(hours=1))

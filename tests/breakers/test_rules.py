"""The rules of a breaker, by themselves: no clock, no store."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from regrow.breakers import rules
from regrow.breakers.rules import (
    AskProbe,
    Breaker,
    BreakerConfig,
    Look,
    Order,
    OrderKind,
    OverrideKind,
    ProbeResult,
    RenewProbe,
    Report,
    Restore,
    SettleProbe,
    State,
    apply,
    shown_state,
)
from regrow.errors import SettingsError

NOW = 1_800_000_000_000
CONFIG = BreakerConfig()


def report(breaker: Breaker, outcomes: str, now: int = NOW, config: BreakerConfig = CONFIG) -> Breaker:
    """Report a batch written as s and f, in order."""
    run = len(outcomes) - len(outcomes.rstrip("f"))
    batch = Report(breaker.epoch, outcomes.count("s"), outcomes.count("f"), run)
    return apply(config, breaker, batch, now).breaker


def opened(config: BreakerConfig = CONFIG, now: int = NOW) -> Breaker:
    return report(Breaker(), "f" * config.failure_threshold, now, config)


class TestTripping:
    def test_opens_at_the_fifth_failure_in_a_row_and_not_before(self):
        breaker = report(Breaker(), "ffff")
        assert breaker.state is State.CLOSED
        assert report(breaker, "f").state is State.OPEN

    def test_failures_of_several_processes_add_up_to_one_run(self):
        breaker = Breaker()
        for batch in ("f", "f", "ff", "f"):
            breaker = report(breaker, batch)
        assert breaker.state is State.OPEN

    def test_a_success_ends_the_run(self):
        breaker = report(report(Breaker(), "ffff"), "sfff")
        assert (breaker.state, breaker.run) == (State.CLOSED, 3)

    def test_opens_when_half_of_at_least_ten_calls_failed(self):
        breaker = Breaker()
        for _ in range(4):
            breaker = report(breaker, "fs")
        assert breaker.state is State.CLOSED
        step = apply(CONFIG, breaker, Report(0, 1, 1, 0), NOW)
        assert step.breaker.state is State.OPEN
        assert step.transitions[0].reason == "5 of 10 calls failed"

    def test_the_rate_looks_at_the_last_hundred_calls_only(self):
        healthy = report(Breaker(), "s" * 1000, NOW - 10_000)
        breaker = report(healthy, "sf" * 49, NOW)
        assert breaker.state is State.CLOSED  # 98 of them, so the second of health still counts
        assert report(breaker, "sf", NOW).state is State.OPEN

    def test_calls_older_than_the_window_count_no_more(self):
        breaker = report(Breaker(), "fsfsfsfs", NOW)
        assert report(breaker, "sf", NOW + 61_000).state is State.CLOSED

    def test_opens_when_half_of_at_least_ten_calls_were_slow_though_none_failed(self):
        breaker = apply(CONFIG, Breaker(), Report(0, 9, 0, 0, slow=9), NOW).breaker
        assert breaker.state is State.CLOSED
        step = apply(CONFIG, breaker, Report(0, 1, 0, 0), NOW)
        assert step.breaker.state is State.OPEN
        assert (step.transitions[0].reason, step.transitions[0].slow) == ("9 of 10 calls slow", 9)

    def test_slow_calls_older_than_the_window_count_no_more(self):
        breaker = apply(CONFIG, Breaker(), Report(0, 9, 0, 0, slow=9), NOW).breaker
        later = apply(CONFIG, breaker, Report(0, 10, 0, 0, slow=4), NOW + 61_000).breaker
        assert (later.state, later.slow) == (State.CLOSED, 4)

    def test_an_outcome_of_an_earlier_epoch_is_dropped(self):
        breaker = opened()
        closed = apply(CONFIG, breaker, Order(OrderKind.RESET, "ann", ""), NOW).breaker
        step = apply(CONFIG, closed, Report(breaker.epoch, 0, 50, 50), NOW)
        assert not step.accepted
        assert step.breaker == closed


class TestShadow:
    """``metrics_only``: everything is counted, nobody is refused."""

    def shadow(self, expires_ms: int = 0) -> Breaker:
        order = Order(OrderKind.METRICS_ONLY, "ann", "new settings", expires_ms)
        return apply(CONFIG, opened(), order, NOW).breaker

    def test_what_would_have_opened_it_is_told_and_counted_and_it_stays_closed(self):
        breaker = self.shadow()
        step = apply(CONFIG, breaker, Report(breaker.epoch, 0, 5, 5), NOW)
        (told,) = step.transitions
        assert (told.reason, told.would_open) == ("would have opened: 5 failures in a row", True)
        assert (told.from_state, told.to_state) == (State.CLOSED, State.CLOSED)
        assert (step.breaker.state, step.breaker.would_open) == (State.CLOSED, 1)
        assert step.breaker.override == breaker.override

    def test_an_outage_would_have_opened_it_once_a_recovery_timeout_and_not_once_a_call(self):
        breaker, told = self.shadow(), []
        for second in range(180):
            step = apply(CONFIG, breaker, Report(breaker.epoch, 0, 5, 5), NOW + second * 1000)
            breaker, told = step.breaker, told + list(step.transitions)
        assert [step.at for step in told] == [NOW, NOW + 60_000, NOW + 120_000]
        assert breaker.would_open == 3

    def test_the_order_itself_is_not_taken_for_an_opening(self):
        step = apply(CONFIG, Breaker(), Order(OrderKind.METRICS_ONLY, "ann", ""), NOW)
        assert not step.transitions[0].would_open

    def test_when_it_expires_the_breaker_guards_again(self):
        breaker = apply(CONFIG, self.shadow(expires_ms=900), Look(), NOW + 900).breaker
        assert (breaker.state, breaker.override) == (State.CLOSED, None)
        assert report(breaker, "fffff", NOW + 901).state is State.OPEN


class TestRecovering:
    def test_nobody_is_admitted_before_the_recovery_timeout(self):
        step = apply(CONFIG, opened(), AskProbe("a"), NOW + 59_999)
        assert not step.accepted
        assert step.breaker.state is State.OPEN

    def test_the_first_who_asks_after_it_gets_the_probe_and_the_second_does_not(self):
        step = apply(CONFIG, opened(), AskProbe("a"), NOW + 60_000)
        assert step.accepted
        assert [told.to_state for told in step.transitions] == [State.HALF_OPEN]
        assert not apply(CONFIG, step.breaker, AskProbe("b"), NOW + 60_001).accepted

    def test_three_probes_that_succeed_close_it(self):
        breaker, now = opened(), NOW + 60_000
        for token in "abc":
            assert breaker.state is not State.CLOSED
            breaker = apply(CONFIG, breaker, AskProbe(token), now).breaker
            breaker = apply(
                CONFIG, breaker, SettleProbe(token, breaker.epoch, ProbeResult.SUCCESS), now
            ).breaker
        assert breaker.state is State.CLOSED

    def test_one_probe_that_fails_opens_it_for_another_recovery_timeout(self):
        half = apply(CONFIG, opened(), AskProbe("a"), NOW + 60_000).breaker
        breaker = apply(CONFIG, half, SettleProbe("a", half.epoch, ProbeResult.FAILURE), NOW + 61_000).breaker
        assert breaker.state is State.OPEN
        assert rules.retry_after_ms(breaker, NOW + 61_000) == 60_000

    def test_a_probe_that_was_slow_opens_it_again(self):
        half = apply(CONFIG, opened(), AskProbe("a"), NOW + 60_000).breaker
        step = apply(CONFIG, half, SettleProbe("a", half.epoch, ProbeResult.SLOW), NOW + 61_000)
        assert (step.breaker.state, step.transitions[0].reason) == (State.OPEN, "a probe was slow")

    def test_a_probe_given_back_counts_for_nothing_and_frees_its_place(self):
        half = apply(CONFIG, opened(), AskProbe("a"), NOW + 60_000).breaker
        breaker = apply(CONFIG, half, SettleProbe("a", half.epoch, ProbeResult.RELEASE), NOW + 60_001).breaker
        assert (breaker.state, breaker.probe_successes) == (State.HALF_OPEN, 0)
        assert apply(CONFIG, breaker, AskProbe("b"), NOW + 60_002).accepted

    def test_a_prober_that_died_loses_its_lease_to_the_next(self):
        half = apply(CONFIG, opened(), AskProbe("dead"), NOW + 60_000).breaker
        assert not apply(CONFIG, half, AskProbe("b"), NOW + 61_999).accepted
        step = apply(CONFIG, half, AskProbe("b"), NOW + 62_000)
        assert step.accepted
        late = SettleProbe("dead", half.epoch, ProbeResult.FAILURE)
        assert not apply(CONFIG, step.breaker, late, NOW + 62_001).accepted

    def test_an_old_probe_does_not_close_a_breaker_that_opened_again(self):
        config = BreakerConfig(half_open_max_calls=2, success_threshold=1)
        half = apply(config, opened(config), AskProbe("a"), NOW + 60_000).breaker
        half = apply(config, half, AskProbe("b"), NOW + 60_000).breaker
        again = apply(config, half, SettleProbe("b", half.epoch, ProbeResult.FAILURE), NOW + 60_001).breaker
        step = apply(config, again, SettleProbe("a", half.epoch, ProbeResult.SUCCESS), NOW + 60_002)
        assert not step.accepted
        assert step.breaker.state is State.OPEN

    def test_an_unused_lease_goes_to_whoever_wants_it_but_not_at_once(self):
        half = apply(CONFIG, opened(), AskProbe("a"), NOW + 60_000).breaker
        half = apply(CONFIG, half, RenewProbe("a", parked=True), NOW + 61_000).breaker
        half = apply(CONFIG, half, AskProbe("b"), NOW + 61_500).breaker
        assert apply(CONFIG, half, RenewProbe("a", parked=True), NOW + 61_900).accepted
        assert apply(CONFIG, half, RenewProbe("a", parked=False), NOW + 62_500).accepted, "a call is using it"
        step = apply(CONFIG, half, RenewProbe("a", parked=True), NOW + 62_500)
        assert not step.accepted
        assert apply(CONFIG, step.breaker, AskProbe("b"), NOW + 62_501).accepted

    def test_open_past_its_time_shows_as_half_open_and_a_look_alone_changes_nothing(self):
        breaker = opened()
        assert shown_state(breaker, NOW + 60_000) is State.HALF_OPEN
        assert apply(CONFIG, breaker, Look(), NOW + 60_000).breaker == breaker

    def test_the_monitor_moves_an_idle_open_breaker_on_once(self):
        step = apply(CONFIG, opened(), Look(advance=True), NOW + 60_000)
        assert step.breaker.state is State.HALF_OPEN
        assert apply(CONFIG, step.breaker, Look(advance=True), NOW + 70_000).transitions == ()


class TestHandOnTheSwitch:
    def test_forced_open_refuses_until_it_expires_and_then_probes_decide(self):
        breaker = apply(CONFIG, Breaker(), Order(OrderKind.FORCE_OPEN, "ann", "move", 5_000), NOW).breaker
        assert rules.retry_after_ms(breaker, NOW) == 5_000
        assert not apply(CONFIG, breaker, AskProbe("a"), NOW + 4_999).accepted
        step = apply(CONFIG, breaker, AskProbe("a"), NOW + 5_000)
        assert step.accepted
        assert [told.reason for told in step.transitions] == ["forced_open expired"]

    def test_forced_open_without_an_end_holds_until_reset(self):
        breaker = apply(CONFIG, Breaker(), Order(OrderKind.FORCE_OPEN, "ann", ""), NOW).breaker
        much_later = NOW + 10**9
        assert rules.retry_after_ms(breaker, much_later) is None
        assert not apply(CONFIG, breaker, AskProbe("a"), much_later).accepted
        reset = apply(CONFIG, breaker, Order(OrderKind.RESET, "bob", "done"), much_later).breaker
        assert (reset.state, reset.override) == (State.CLOSED, None)

    def test_disabled_counts_nothing_until_it_expires(self):
        breaker = apply(CONFIG, Breaker(), Order(OrderKind.DISABLE, "ann", "", 1_000), NOW).breaker
        assert report(breaker, "f" * 50, NOW + 999).state is State.CLOSED
        after = apply(CONFIG, breaker, Look(), NOW + 1_000)
        assert after.breaker.override is None
        assert report(after.breaker, "f" * 5, NOW + 1_000).state is State.OPEN

    def test_an_order_says_who_and_why(self):
        (told,) = apply(CONFIG, Breaker(), Order(OrderKind.DISABLE, "ann", "tests"), NOW).transitions
        assert (told.actor, told.reason, told.override) == ("ann", "disable: tests", "disabled")


class TestClocks:
    def test_a_clock_that_jumps_back_an_hour_keeps_nobody_out_longer_than_the_timeout(self):
        breaker = apply(CONFIG, opened(), Look(), NOW - 3_600_000).breaker
        assert rules.retry_after_ms(breaker, NOW - 3_600_000) == 60_000

    def test_an_epoch_grows_though_the_clock_does_not(self):
        breaker = opened()
        later = apply(CONFIG, breaker, Order(OrderKind.RESET, "ann", ""), NOW - 3_600_000).breaker
        assert later.epoch == breaker.epoch + 1

    def test_a_store_that_forgot_is_told_and_one_that_knows_better_is_not(self):
        known = Restore(NOW, State.OPEN, open_ms=30_000)
        told = apply(CONFIG, Breaker(), known, NOW).breaker
        assert (told.state, told.epoch, told.open_until) == (State.OPEN, NOW, NOW + 30_000)
        assert not apply(CONFIG, Breaker(epoch=NOW + 1), known, NOW).accepted

    def test_a_store_that_forgot_is_told_how_long_ago_it_closed(self):
        known = Restore(NOW, State.CLOSED, closed_ms=4_000)
        assert apply(CONFIG, Breaker(), known, NOW + 9_000).breaker.closed_at == NOW + 5_000
        held = Restore(NOW, State.CLOSED, override=OverrideKind.DISABLED, actor="ann", closed_ms=4_000)
        assert apply(CONFIG, Breaker(), held, NOW).breaker.closed_at == 0, "who refuses nobody has no ramp"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failure_threshold", 0),
        ("failure_threshold", 2.5),
        ("success_threshold", True),
        ("recovery_timeout", 0),
        ("timeout", -1),
        ("window_seconds", float("nan")),
        ("failure_rate", 1.5),
        ("failure_rate", 0),
        ("half_open_max_calls", 0),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        BreakerConfig(**{name: value})


def test_settings_of_a_newer_version_are_read_as_far_as_they_are_known():
    values = {**BreakerConfig(failure_threshold=7).as_dict(), "of_tomorrow": 1}
    assert BreakerConfig.from_dict(values) == BreakerConfig(failure_threshold=7)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4000)), max_size=60),
    st.integers(5, 40),
)
def test_the_window_is_bounded_and_holds_what_was_last_reported(batches, window_size):
    config = BreakerConfig(
        window_size=window_size, failure_threshold=10**6, failure_rate=1.0, minimum_requests=10**6
    )
    breaker, now, sent = Breaker(), NOW, 0
    for successes, failures, passed in batches:
        now += passed
        breaker = apply(config, breaker, Report(0, successes, failures, 0), now).breaker
        sent += successes + failures
        kept = breaker.successes + breaker.failures
        oldest = breaker.window[0]
        assert len(breaker.window) <= rules.SLOTS
        assert all(now - config.window_ms < slot.start <= now for slot in breaker.window)
        assert len(breaker.window) == 1 or kept - oldest.successes - oldest.failures < window_size
        assert kept <= sent


@given(st.text("sf", max_size=40), st.text("sf", max_size=40))
def test_two_reports_joined_say_the_same_as_one_after_the_other(first, second):
    def batch(outcomes):
        return Report(0, outcomes.count("s"), outcomes.count("f"), len(outcomes) - len(outcomes.rstrip("f")))

    config = BreakerConfig(failure_threshold=10**6, minimum_requests=10**6)
    apart = apply(config, apply(config, Breaker(), batch(first), NOW).breaker, batch(second), NOW).breaker
    joined = apply(config, Breaker(), rules.joined(batch(first), batch(second)), NOW).breaker
    assert (apart.run, apart.successes, apart.failures) == (joined.run, joined.successes, joined.failures)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of events, with a clock that mostly goes on and sometimes jumps back."""

    @initialize(calls=st.integers(1, 3), successes=st.integers(1, 3))
    def begin(self, calls, successes):
        self.config = BreakerConfig(
            half_open_max_calls=calls, success_threshold=successes, recovery_timeout=10, window_size=20
        )
        self.breaker = Breaker()
        self.now = NOW
        self.told = []
        self.tokens = 0
        self.good_probes = 0

    def let(self, event):
        before = self.breaker
        step = apply(self.config, self.breaker, event, self.now)
        self.breaker = step.breaker
        self.told += step.transitions
        for told in step.transitions:
            self.good_probes = 0 if told.to_state is not State.CLOSED else self.good_probes
            if told.to_state is State.CLOSED and not told.actor and told.from_state is not State.CLOSED:
                assert self.good_probes + 1 == self.config.success_threshold
        return before, step

    @rule(passed=st.one_of(st.integers(0, 15_000), st.just(-3_600_000)))
    def time_passes(self, passed):
        self.now += passed

    @rule(outcomes=st.text("sf", min_size=1, max_size=8), stale=st.booleans())
    def report(self, outcomes, stale):
        run = len(outcomes) - len(outcomes.rstrip("f"))
        epoch = self.breaker.epoch - 1 if stale else self.breaker.epoch
        before, step = self.let(Report(epoch, outcomes.count("s"), outcomes.count("f"), run))
        if stale:
            assert not step.accepted
        if before.state is not State.CLOSED:
            assert self.breaker.state is before.state or step.transitions, "evidence cannot move it"

    @rule()
    def ask(self):
        self.tokens += 1
        before, step = self.let(AskProbe(f"t{self.tokens}"))
        if step.accepted:
            assert before.state is not State.CLOSED
            assert self.breaker.state is State.HALF_OPEN

    @precondition(lambda self: self.breaker.leases)
    @rule(which=st.integers(0, 5), result=st.sampled_from(ProbeResult), stale=st.booleans())
    def settle(self, which, result, stale):
        lease = self.breaker.leases[which % len(self.breaker.leases)]
        epoch = self.breaker.epoch - 1 if stale else self.breaker.epoch
        _, step = self.let(SettleProbe(lease.token, epoch, result))
        assert not (stale and step.accepted)
        if step.accepted and result is ProbeResult.SUCCESS and not step.transitions:
            self.good_probes += 1
        elif step.transitions:
            self.good_probes = 0
        again = apply(self.config, self.breaker, SettleProbe(lease.token, epoch, result), self.now)
        assert stale or not again.accepted, "a lease settles once"

    @precondition(lambda self: self.breaker.leases)
    @rule(parked=st.booleans())
    def renew(self, parked):
        self.let(RenewProbe(self.breaker.leases[0].token, parked))

    @rule(kind=st.sampled_from(OrderKind), expires=st.sampled_from([0, 5_000]))
    def order(self, kind, expires):
        self.let(Order(kind, "ann", "", expires))
        self.good_probes = 0

    @rule(advance=st.booleans())
    def look(self, advance):
        self.let(Look(advance))

    @invariant()
    def epochs_grow_and_every_transition_names_the_one_before(self):
        for earlier, later in zip(self.told, self.told[1:], strict=False):
            assert later.epoch > earlier.epoch
            assert later.previous == earlier.epoch
            assert later.from_state is earlier.to_state
        assert not self.told or self.told[-1].epoch == self.breaker.epoch

    @invariant()
    def probes_are_limited_and_only_while_half_open(self):
        assert len(self.breaker.leases) <= self.config.half_open_max_calls
        assert not self.breaker.leases or self.breaker.state is State.HALF_OPEN

    @invariant()
    def nobody_is_kept_out_for_longer_than_was_said(self):
        left = rules.retry_after_ms(apply(self.config, self.breaker, Look(), self.now).breaker, self.now)
        assert self.breaker.override is not None or (left is not None and left <= self.config.recovery_ms)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

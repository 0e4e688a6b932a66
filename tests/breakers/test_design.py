"""Each flaw of the field, and each sentence of how ours works, with the test that fails without it.

``FLAWS`` and ``PROMISES`` are the table: what is claimed -> where it is tested. A claim without a test, or a
name that is no test any more, fails here.
"""

from __future__ import annotations

from importlib import import_module

import pytest

_FLAWS = "breakers.test_flaws_of_others:test_"

FLAWS = {
    "pybreaker holds its lock during the user's call": _FLAWS + "lock_held_during_the_users_call",
    "pybreaker: 80% failures never trip": _FLAWS + "four_of_five_calls_fail_and_it_never_trips",
    "pybreaker: 20 breakers make 20 probes": _FLAWS + "twenty_breakers_make_twenty_probes",
    "pybreaker: an old probe's success closes it": _FLAWS
    + "an_old_probes_success_closes_a_breaker_that_opened_again",
    "pybreaker, nopanic-redis: the caller's clock decides": _FLAWS
    + "another_hosts_clock_makes_five_seconds_an_hour",
    "pybreaker: without Redis the constructor raises": _FLAWS + "redis_down_and_the_constructor_raises",
    "purgatory: 50 failures at once stay closed": _FLAWS
    + "fifty_failures_at_once_at_threshold_five_and_it_stays_closed",
    "purgatory: without Redis the guarded code never runs": _FLAWS
    + "redis_down_and_the_guarded_code_never_runs",
    "nopanic-redis, interlock-cb: a killed prober leaves it stuck": _FLAWS
    + "a_killed_prober_leaves_it_half_open_for_ever",
    "nopanic-redis: its hash is never trimmed": _FLAWS + "a_hash_that_healthy_traffic_never_trims",
    "interlock-cb: a forked child's trip is never published": _FLAWS
    + "after_a_fork_a_childs_trip_is_never_published",
    "interlock-cb: 90 failures, 9 a worker, do not trip": _FLAWS
    + "ninety_of_ninety_calls_of_a_fleet_fail_nine_in_each_worker",
    "interlock-cb: its loop dies with asyncio.run": _FLAWS + "a_breakers_loop_dies_with_asyncio_run",
    "asyncbreaker, aiobreaker: half-open is invisible": _FLAWS + "half_open_is_invisible_to_peers",
    "aiobreaker-redis: the event loop is frozen": _FLAWS + "the_event_loop_is_frozen_by_a_sync_client",
    "asyncbreaker: a StorageError after the work ran": _FLAWS + "a_storage_error_after_the_work_ran",
    "baldur: a half-open place without a look at the time": _FLAWS
    + "a_half_open_place_is_granted_without_a_look_at_the_time",
    "baldur: success needs no token": _FLAWS + "a_success_that_needs_no_token",
    "gobreaker: the fleet's lock around the call": _FLAWS + "the_fleets_lock_is_held_around_the_users_call",
    "gobreaker: an error of Redis refuses the call": _FLAWS + "an_error_of_redis_refuses_the_call",
    "resilience4j, Polly: late results count as probes": _FLAWS
    + "late_results_of_an_earlier_state_count_as_probes",
}

PROMISES = {
    # Hot path, reporter
    "no I/O on the closed path": "breakers.test_fleet:test_callers_never_talk_to_the_store_and_ten_thousand_calls_are_a_few_reports",
    "one thread a process, and quiet when idle": "breakers.test_fleet:test_idle_breakers_cost_one_look_every_two_seconds_and_no_thread_more",
    "a report sent again is counted once": "breakers.test_outages:test_a_report_that_a_frozen_redis_took_after_all_is_counted_once",
    "flushed at exit": "breakers.test_fleet:test_a_process_that_fails_and_ends_at_once_still_publishes_its_trip",
    "flushed by a pool's child, and keyed by pid": "breakers.test_fleet:TestForks",
    "no threads, keys or connections are left": "breakers.test_leaks:test_outages_leave_neither_threads_nor_connections",
    "what is gathered follows no change of Redis": "breakers.test_attaching:test_what_was_gathered_goes_to_the_store_of_before",
    # One script decides
    "Lua says what the rules say": "breakers.test_stores:test_lua_decides_exactly_as_the_rules_do",
    "a run over batches, by arrival": "breakers.test_rules:TestTripping",
    "the window is bounded, by calls and by time": "breakers.test_rules:test_the_window_is_bounded_and_holds_what_was_last_reported",
    "slow calls trip": "breakers.test_shapes:test_slow_calls_open_it_though_every_one_succeeded_and_kept_its_result",
    "TIME may jump": "breakers.test_rules:TestClocks",
    "a script that Redis forgot is sent again": "breakers.test_stores:test_a_server_that_forgot_the_script_is_given_it_again",
    # Quorum, epoch
    "alone it trips at once": "breakers.test_quorum:test_with_one_host_alive_its_word_is_the_fleets",
    "one bad host of several opens itself alone": "breakers.test_quorum:test_one_bad_host_opens_all_its_processes_and_nobody_elses_and_recovers_alone",
    "a host that died is not waited for": "breakers.test_quorum:test_a_killed_host_is_not_waited_for",
    "the quorum as a state machine": "breakers.test_quorum:TestQuorumMachine",
    "an epoch is never used twice": "breakers.test_stores:test_epochs_go_on_after_the_state_is_gone",
    "a result of an earlier epoch is dropped": "breakers.test_rules:TestTripping",
    "overrides are durable": "breakers.test_overrides:TestWithRealStores",
    # Half-open
    "of many who ask, so many get a lease": "breakers.test_stores:test_of_fifty_who_ask_at_once_exactly_one_gets_the_probe",
    "settling needs token and epoch": "breakers.test_rules:TestRecovering",
    "cancellation gives the lease back": "breakers.test_shapes:test_a_cancelled_call_counts_for_nothing_and_gives_its_probe_back",
    "a running probe renews": "breakers.test_fleet:TestProbes",
    "up to a hard cap": "breakers.test_testing:test_a_probe_that_hangs_past_its_time_leaves_its_place_to_another",
    "nobody waits for Redis to probe, unless told to": "breakers.test_waiting:TestALeaseAndThoseWhoWait",
    # After closing
    "calls come back on a ramp": "breakers.test_ramp:test_after_it_has_closed_calls_come_back_little_by_little",
    "in every process": "breakers.test_ramp:test_every_process_of_a_fleet_takes_part_in_the_ramp_and_it_is_shown",
    "and a flushed Redis is told of it": "breakers.test_ramp:test_a_redis_that_was_flushed_in_the_middle_of_a_ramp_is_told_of_it",
    "redrive goes by the same rule": "dead_letters.test_pacing:test_an_open_breaker_lets_nothing_go_and_the_rate_begins_small_when_it_closes",
    # Push, Cluster, Sentinel
    "changes are pushed": "breakers.test_push:test_an_idle_process_is_told_of_a_trip_and_of_a_persons_order",
    "and found where the message was lost": "breakers.test_push:test_what_is_published_while_nobody_hears_is_seen_by_the_next_look",
    "one trip a node": "breakers.test_cluster:test_many_steps_are_one_trip_a_node_also_where_the_script_is_not_known",
    "a node's loss is the loss of its breakers alone": "breakers.test_cluster:test_the_loss_of_a_node_is_the_loss_of_its_breakers_alone",
    "Sentinel and Cluster fail over under load": "breakers.test_failover:test_a_master_is_lost_under_load",
    # Redis down
    "frozen or killed under load: nobody sees it or waits": "breakers.test_outages:test_under_load_no_caller_sees_an_outage_or_waits_for_it",
    "flushed under load": "breakers.test_outages:test_under_load_an_emptied_redis_is_no_event",
    "local rules meanwhile": "breakers.test_outages:test_without_redis_a_process_trips_and_recovers_by_itself",
    "evidence afterwards": "breakers.test_outages:test_what_failed_while_redis_was_away_trips_the_fleet_when_it_is_back",
    "its state is adopted": "breakers.test_outages:test_a_process_takes_over_what_the_fleet_decided_meanwhile",
    "or rebuilt": "breakers.test_outages:test_an_emptied_redis_is_told_again_what_the_fleet_knows",
    # What counts
    "record and ignore, classes and predicates": "breakers.test_shapes:test_errors_that_do_not_count_change_nothing",
    "a pool of ours that is exhausted is no failure": "httpx.test_transports:test_our_own_mistakes_are_not_the_hosts",
    "a plain call past its timeout": "breakers.test_shapes:test_a_plain_call_that_returns_late_keeps_its_result_and_counts_as_failed",
    # Hand on the switch, configuration
    "actor, reason and expiry": "breakers.test_shapes:TestOrders",
    "fleet-wide": "breakers.test_fleet:test_an_order_given_in_one_process_holds_in_all",
    "shadow mode": "breakers.test_rules:TestShadow",
    "kinds of service": "breakers.test_kinds:test_a_kind_brings_its_settings",
    "regrow.toml reaches the fleet": "breakers.test_declared:test_a_change_of_the_file_reaches_processes_that_run_and_its_end_too",
    "keys under a parent": "breakers.test_keyed:test_while_the_parent_is_open_every_key_is_refused_in_every_shape",
    # Shapes
    "every shape, sync and async": "breakers.test_shapes:test_each_shape_lets_errors_through_and_the_fifth_opens_the_breaker",
    "fallbacks": "fallbacks.test_fallbacks:test_a_fallback_answers_for_failures_and_then_for_refusals_and_hides_neither_from_the_breaker",
    "listeners": "fallbacks.test_fallbacks:TestListeners",
    "ASGI": "asgi.test_server:test_a_broken_path_opens_is_refused_and_heals_while_other_paths_go_on",
    "WSGI": "wsgi.test_middleware:test_behind_a_real_server_a_broken_path_opens_is_refused_and_heals",
    "httpx": "httpx.test_transports:test_a_host_that_fails_is_left_alone_and_found_well_again",
    "Celery: no attempt is burnt": "worker.test_breakers:test_a_refused_task_comes_back_until_it_is_through_or_too_late_and_burns_no_attempt",
    # Monitor, replay, metrics, tests of applications
    "each transition is written once": "breakers.test_history:TestMonitor",
    "gaps are recorded": "breakers.test_history:TestMonitor",
    "recovery begins once an opening": "recovery.test_service:TestFromOpeningToEnd",
    "watch": "cli.test_breakers:TestWatch",
    "simulate, with ramps and hosts": "breakers.test_replay:test_one_bad_host_is_opened_for_itself_and_the_others_go_on",
    "metrics": "web.test_metrics:test_what_a_guarded_call_did_is_served_once_its_process_has_told_it",
    "regrow.testing": "breakers.test_testing:test_a_breaker_opens_rests_and_closes_by_the_clock_of_the_test",
    # Retries
    "strategies": "retries.test_policy:test_the_strategies_grow_as_their_names_say",
    "jitter": "retries.test_policy:test_full_jitter_spreads_below_the_backoff_and_equal_jitter_over_its_upper_half",
    "deadlines": "retries.test_retry:test_the_deadline_counts_the_time_of_the_tries_too",
    "Retry-After": "retries.test_policy:TestRetryAfter",
    "HTTP": "retries.test_retry:TestHttp",
    "a form for blocks": "retries.test_attempts:test_a_block_is_tried_again_until_it_works",
    "a budget of the fleet": "retries.test_shared_budget:test_a_fleet_of_real_processes_keeps_to_one_budget",
    "no try is burnt behind an open breaker": "retries.test_retry:test_under_an_open_breaker_it_waits_instead_of_burning_its_tries",
    # The tests that must exist
    "a state machine on the rules": "breakers.test_rules:TestBreakerMachine",
    "Celery's prefork": "breakers.test_fleet:TestForks",
    "SIGKILL of a prober": _FLAWS + "a_killed_prober_leaves_it_half_open_for_ever",
    "eight processes in front of a failing service": "breakers.test_eight_processes:test_few_calls_leak_one_probe_at_a_time_finds_out_and_all_come_back",
    "an hour ahead on one host": "breakers.test_quorum:test_a_host_whose_clocks_are_an_hour_ahead_moves_no_breaker_and_is_told_right",
    "the guides run as written": "breakers.test_docs:test_the_five_minute_guide_keeps_its_word",
}


@pytest.mark.parametrize("claim", [*FLAWS, *PROMISES])
def test_what_the_design_claims_has_its_test(claim: str) -> None:
    module, _, name = {**FLAWS, **PROMISES}[claim].partition(":")
    assert callable(getattr(import_module(f"tests.{module}"), name))


def test_every_flaw_of_others_is_in_the_table() -> None:
    module = import_module("tests.breakers.test_flaws_of_others")
    assert {name for name in dir(module) if name.startswith("test_")} == {
        told.partition(":")[2] for told in FLAWS.values()
    }

"""Each pitfall of the field, and each sentence of how ours works, with the test that fails without it.

``PITFALLS`` and ``PROMISES`` are the table: what is claimed -> where it is tested. A claim without a test, or a
name that is no test any more, fails here.
"""

from __future__ import annotations

from importlib import import_module

import pytest

PITFALLS = {
    "Sidekiq keeps the last error only": "dead_letters.test_pitfalls_of_others:test_sidekiq_keeps_the_last_error_only",
    "Sidekiq cuts messages at 10,000 characters": "dead_letters.test_pitfalls_of_others:test_sidekiq_cuts_messages_at_ten_thousand_characters",
    "Sidekiq and baldur drop the oldest, Oban deletes after 60 s": "dead_letters.test_pitfalls_of_others:test_the_oldest_are_dropped_past_a_cap_and_discarded_ones_after_a_minute",
    "a full store refuses loudly and evicts nothing": "dead_letters.test_spool:test_a_full_spool_refuses_loudly_evicts_nothing_and_takes_again_when_there_is_room",
    "baldur: a stale lease settles, and a failure undoes a success": "dead_letters.test_pitfalls_of_others:test_baldur_lets_a_worker_with_a_stale_lease_settle_and_its_failure_undo_a_success",
    "RQ and Sidekiq pop first and push second": "dead_letters.test_pitfalls_of_others:test_bulk_requeue_pops_first_and_pushes_second",
    "hookrelay writes the dedupe marker before the data": "dead_letters.test_pitfalls_of_others:test_hookrelay_writes_the_dedupe_marker_before_the_data",
    "Celery's Reject(requeue=False) on Redis deletes the message": "worker.test_failure_matrix:test_every_ending_is_captured_whole_once_and_acknowledged",
    "RabbitMQ dead-letters at most once by default": "worker.test_dead_letter_queues:test_a_hundred_messages_outlive_a_broker_that_is_restarted_in_the_middle",
    "RabbitMQ drops what no queue takes": "worker.test_sender:test_a_queue_that_rabbitmq_does_not_have_is_a_route_error_and_the_next_letter_goes_out",
    "an ETA beyond the visibility timeout is delivered twice": "dead_letters.test_pitfalls_of_others:test_an_eta_beyond_the_visibility_timeout_is_delivered_twice",
    "a retry of all makes the outage again": "dead_letters.test_outage:test_an_outage_costs_no_attempt_parks_nothing_and_is_drained_below_the_rate",
    "history is lost with each retry": "dead_letters.test_pitfalls_of_others:test_history_is_lost_with_each_retry_by_hand",
    "discards without a reason": "dead_letters.test_pitfalls_of_others:test_a_discard_needs_no_reason",
    "lists that get slow by OFFSET": "dead_letters.test_service:test_lists_page_by_key_and_filter",
    "attempt counters alone kill good messages in an outage": "dead_letters.test_pitfalls_of_others:test_attempt_counters_alone_kill_good_messages_in_an_outage",
}

PROMISES = {
    # Occurrence, letter, generation
    "an event is unique": "dead_letters.test_service:test_the_same_event_told_twice_is_kept_once",
    "both ids find a letter": "dead_letters.test_service:test_the_same_event_told_twice_is_kept_once",
    "a key makes one letter, whoever captures at once": "dead_letters.test_service:test_capturers_of_one_key_at_the_same_time_make_one_letter",
    "a failure with our header belongs to its attempt": "dead_letters.test_returned:test_where_the_outcome_is_waited_for_it_is_that_attempts_failure",
    "without it a live letter is seen again": "dead_letters.test_service:test_another_failure_of_a_live_message_is_seen_again_not_doubled",
    "and a settled one becomes the next generation": "dead_letters.test_service:test_a_message_that_fails_again_after_it_was_settled_is_a_new_generation",
    "key tombstones outlive the longest spool age": "dead_letters.test_retention:test_events_of_purged_letters_are_known_until_no_spool_can_hold_them",
    "also of letters that an older version purges in an upgrade": "dead_letters.test_tombstones:test_letters_that_an_older_worker_purges_during_an_upgrade_are_found_remembered_and_forgotten",
    "a generation cap ends loops": "dead_letters.test_service:test_a_message_that_keeps_coming_back_ends_in_quarantine",
    # A letter
    "origin, correlation, trace and code version are kept": "dead_letters.test_service:test_where_a_message_came_from_is_kept_with_its_letter",
    "the whole body is kept": "dead_letters.test_service:test_the_body_is_kept_whole",
    "over the cap it is refused, never cut": "dead_letters.test_service:test_a_message_over_the_cap_is_refused_whole_and_nothing_of_the_batch_is_kept",
    "digests are HMACs": "dead_letters.test_sealing:test_one_key_serves_a_service_and_its_digest_is_no_plain_hash",
    "errors are kept as strings": "dead_letters.test_captured:test_an_exception_is_kept_as_strings_with_its_traceback",
    # States and settlement
    "the states and who may leave them": "dead_letters.test_state_machine:TestLetters",
    "acts by hand are audited": "dead_letters.test_service:test_a_person_retries_a_quarantined_letter_and_it_is_audited",
    "an expired lease returns": "dead_letters.test_service:test_a_dead_workers_lease_runs_out_and_its_zombie_can_do_no_harm",
    "nobody publishes under a lease that runs short": "dead_letters.test_service:test_a_slow_broker_does_not_outlive_its_lease",
    "a failure counts for the current attempt alone": "dead_letters.test_service:test_a_failure_of_an_earlier_attempt_does_not_touch_the_current_one",
    "a success of any attempt resolves": "dead_letters.test_service:test_a_late_success_of_an_earlier_attempt_settles_while_a_later_one_is_out",
    "from quarantine too; discarded stays discarded": "dead_letters.test_service:test_a_late_success_settles_a_quarantined_letter_but_never_a_discarded_one",
    "the evidence row is always written": "dead_letters.test_many:test_outcomes_told_together_settle_each_letter_once",
    "settled copies are skipped before they run": "dead_letters.test_settled_marks:test_an_outcome_marks_its_letter_and_a_publish_that_settles_does_not",
    "an app tells its outcome before its ack": "worker.test_lifecycle:test_the_outcome_of_the_last_task_is_told_and_its_message_acknowledged_before_a_worker_ends",
    "dispatched has a deadline": "dead_letters.test_service:test_silence_until_the_deadline_makes_it_due_again_and_costs_an_attempt",
    "before a second dispatch the queue is looked at": "dead_letters.test_second_copies:test_what_still_waits_in_its_queue_is_never_sent_twice_however_long_it_takes",
    "and a started mark": "dead_letters.test_second_copies:test_what_a_living_worker_has_in_hand_is_waited_for_and_a_dead_ones_mark_passes",
    "both on real workers": "worker.test_install:test_a_redriven_task_that_runs_past_its_deadline_is_not_sent_a_second_time",
    "an unconfirmed publish releases, and costs nothing": "dead_letters.test_service:test_a_broker_that_is_away_releases_the_whole_batch_at_no_cost",
    # Accepted, capture
    "a flushed broker loses nothing": "worker.test_spool:test_accepted_failures_outlive_the_app_and_a_flushed_broker_and_settle_through_the_spool",
    "an entry is kept until its receipt": "dead_letters.test_spool_shipping:test_entries_stay_until_they_were_received_however_often_they_were_sent",
    "the receipt is a contiguous watermark": "dead_letters.test_receipts:test_numbers_in_any_order_and_more_than_once_are_known_exactly",
    "the task API is idempotent": "dead_letters.test_tasks:test_a_message_by_name_alone_is_kept_and_its_task_id_is_the_event",
    "HTTP is too": "web.test_intake:test_one_message_is_kept_and_told_again_is_known",
    "x-death is read": "worker.test_x_death:test_home_is_the_queue_where_it_died_and_the_reason_is_the_error",
    "a spool is adopted through its released lock": "dead_letters.test_spool:test_what_a_killed_process_left_is_adopted_and_what_a_living_one_holds_is_not",
    "forked children close it": "dead_letters.test_spool:test_a_forked_child_leaves_its_parents_source_alone_and_writes_its_own",
    "install() refuses an unwritable path": "worker.test_install:test_install_refuses_a_spool_that_cannot_be_written",
    "a full disk acknowledges nothing": "dead_letters.test_spool:test_a_disk_that_is_full_accepts_nothing_and_loses_nothing",
    "nor does one that takes no file for what is no letter": "worker.test_dead_letter_queues:test_a_disk_that_takes_no_file_holds_the_message_and_gives_it_back_to_nobody",
    "broken bodies and unknown tasks are captured as bytes": "worker.test_consumer:test_poison_is_captured_whole_and_acknowledged_and_the_worker_goes_on",
    "the library core needs no Celery": "worker.test_install:test_an_app_needs_celery_and_redis_and_nothing_else",
    "nor does it hold up what came in the same message": "dead_letters.test_tasks:test_on_a_full_disk_one_of_many_that_needs_a_file_holds_up_none_of_the_others",
    "nor in the same parcel of a spool": "dead_letters.test_receipts:test_on_a_full_disk_a_parcel_waits_and_holds_up_none_of_its_captures",
    # Classes
    "classes by registry, never by substring": "dead_letters.test_classes:test_names_are_matched_whole",
    "the app's hook comes first": "dead_letters.test_classes:test_the_apps_own_word_comes_first",
    "Retry-After is kept": "dead_letters.test_classes:test_retry_after_is_the_least_wait_and_a_day_the_longest",
    "a dependency that is down costs nothing": "dead_letters.test_classes:test_a_dependency_that_is_down_costs_nothing_until_patience_ends",
    "a refusal by a breaker costs nothing": "dead_letters.test_redrive_classes:test_a_letter_that_an_open_breaker_refuses_comes_back_free",
    "permanent is quarantined": "dead_letters.test_redrive_classes:test_a_permanent_failure_waits_for_a_person_from_its_capture_on",
    "poison: worker lost twice, not in a deploy": "dead_letters.test_redrive_classes:test_what_kills_its_worker_twice_is_poison_and_a_deploy_is_not",
    "poison: whoever kills the redriving worker": "dead_letters.test_crashing_letters:test_a_letter_that_kills_its_redriving_worker_is_quarantined_and_its_neighbours_go_home",
    "and not who was in its hands in a deploy or a broker's loss": "dead_letters.test_crashing_letters:test_a_worker_that_is_told_to_end_gives_its_letters_back_at_once_and_they_are_no_suspects",
    "unknown has few tries": "dead_letters.test_redrive_classes:test_unknown_failures_have_few_tries_unless_the_capture_says_more",
    "dead means attempts and age": "dead_letters.test_classes:test_dead_means_attempts_and_age",
    "the fingerprint joins a call site": "dead_letters.test_captured:test_the_fingerprint_joins_a_site_across_lines_and_messages_and_parts_other_sites",
    # Redrive
    "a second worker gets rows, and does not wait": "dead_letters.test_service:test_two_workers_lease_different_letters_without_waiting_for_each_other",
    "round robin across services": "dead_letters.test_pacing:test_every_service_has_its_turn",
    "open holds at no cost": "dead_letters.test_service:test_an_open_breaker_holds_letters_at_no_cost",
    "half-open sends one canary an interval": "dead_letters.test_pacing:test_half_open_sends_one_canary_in_each_recovery_interval",
    "closed: token bucket with slow start": "dead_letters.test_pacing:test_an_open_breaker_lets_nothing_go_and_the_rate_begins_small_when_it_closes",
    "live traffic first": "dead_letters.test_pacing:test_live_traffic_that_fails_slows_redrive_down_before_any_letter_does",
    "the rate falls on latency": "dead_letters.test_pacing:test_slow_answers_slow_redrive_down_and_a_service_that_stays_slow_is_accepted",
    "only routes that run here lease the probe themselves": "dead_letters.test_routes_here:test_an_open_breaker_costs_nothing_its_own_or_one_inside",
    "one of an order key at a time": "dead_letters.test_redrive_classes:test_letters_of_a_key_go_one_at_a_time_in_the_order_of_their_capture",
    "a poisoned key parks its followers only": "dead_letters.test_redrive_classes:test_a_poisoned_key_parks_its_followers_and_nobody_else",
    "the line is looked at in parts": "dead_letters.test_crashing_letters:test_a_look_at_the_line_reads_no_more_rows_than_it_looks_at",
    "the leased row is the outbox": "proof.test_crash_points:test_a_hundred_deaths_at_chosen_points_lose_nothing_and_settle_nothing_twice",
    "callbacks travel in the body and are kept": "dead_letters.test_home:test_a_captured_celery_message_is_replayed_with_its_own_callbacks_kept",
    "what cannot be replayed is said before": "dead_letters.test_preflight:test_what_cannot_be_replayed_is_said",
    "home: a Celery task under its own id": "worker.test_sender:test_a_letter_arrives_in_its_home_queue_as_a_celery_message",
    "home: AMQP with headers and properties": "worker.test_sender:test_an_amqp_message_comes_home_with_headers_and_properties_and_is_never_dropped",
    "home: a signed webhook": "dead_letters.test_webhook:test_a_2xx_settles_and_the_receiver_can_verify_it_with_either_key",
    "home: a Python handler with a validation": "dead_letters.test_handler:test_validation_runs_the_function_without_effects_and_not_the_handler",
    "confirm = publish": "dead_letters.test_service:test_confirm_publish_settles_with_the_brokers_word",
    # Own queues
    "a storm of letters never blinds the monitor": "worker.test_configuration:test_failed_messages_do_not_wait_behind_scheduled_jobs",
    "while the database is down the capture consumer pauses": "worker.test_store_pause:test_while_the_database_is_away_nothing_is_taken_from_the_capture_queue_and_nothing_is_lost",
    "nothing is retried by ETA": "dead_letters.test_tasks:test_while_the_database_is_away_the_message_goes_back_to_the_broker",
    # Counters, privacy, retention, ledger
    "insert-only deltas, exact under folders, writers and readers": "dead_letters.test_ledger:test_folders_writers_and_readers_at_once_stay_exact",
    "sealed at rest": "dead_letters.test_sealing:test_nothing_that_a_letter_says_is_in_the_database_and_it_goes_home_whole",
    "keys rotate": "dead_letters.test_sealing:test_after_a_rotation_the_old_key_can_go",
    "keys are erasable by subject": "dead_letters.test_sealing:test_a_subject_is_erased_in_database_and_archives_and_others_are_not",
    "spools seal to a public key": "dead_letters.test_spool_sealing:test_what_an_app_spools_is_sealed_and_regrow_reads_it",
    "redaction covers errors": "dead_letters.test_tasks:test_listed_errors_are_redacted",
    "settled letters are archived, then purged": "dead_letters.test_retention:test_a_purged_letter_is_found_again_with_all_that_belonged_to_it",
    "nothing unproven is purged": "dead_letters.test_retention:test_what_is_not_proven_to_be_in_an_archive_is_not_purged",
    "unsettled ones never": "dead_letters.test_pitfalls_of_others:test_the_oldest_are_dropped_past_a_cap_and_discarded_ones_after_a_minute",
    "accepted = live + resolved + discarded + purged": "dead_letters.test_ledger:test_whatever_happens_the_equation_holds",
    "a gap in a source alerts": "dead_letters.test_receipts:test_a_gap_that_stays_is_told_and_one_that_closes_is_not",
    # Honest words
    "the effect key is the same for every redrive": "dead_letters.test_second_copies:test_where_nothing_can_be_learned_the_wait_is_bounded_and_then_the_copy_goes_with_the_same_effect_key",
}


@pytest.mark.parametrize("claim", [*PITFALLS, *PROMISES])
def test_what_the_design_claims_has_its_test(claim: str) -> None:
    module, _, name = {**PITFALLS, **PROMISES}[claim].partition(":")
    assert callable(getattr(import_module(f"tests.{module}"), name))

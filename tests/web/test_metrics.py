"""/metrics, as Prometheus reads it."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import regrow
from regrow import counters
from regrow.breakers.history import monitor
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.reporter import Reporter
from regrow.dead_letters import captured, service
from regrow.engine import Engine
from regrow.health.service import run_due
from regrow.jobs import record
from regrow.tallies import KEY, field_of, tallies
from tests.waiting import eventually
from tests.web.conftest import KEY as API_KEY
from tests.web.conftest import MakeClient

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def families(client: TestClient) -> dict[str, Metric]:
    answer = client.get("/metrics", headers={"X-API-Key": API_KEY})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def samples(client: TestClient) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(client).values()
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def test_the_documented_names_tell_the_scene(holder: TestClient) -> None:
    found = samples(holder)
    assert value(found, "health_check_status", check="payments", kind="http", status="unhealthy") == 1
    assert value(found, "health_check_status", check="payments", kind="http", status="healthy") == 0
    assert value(found, "health_check_status", check="search", kind="http", status="unknown") == 1
    assert value(found, "health_check_duration_seconds", check="payments", kind="http") == 5.0
    assert value(found, "circuit_breaker_state", breaker="payments", state="open") == 1
    assert value(found, "circuit_breaker_state", breaker="shipping", state="closed") == 1
    assert value(found, "dlq_messages_total", state="pending") == 14
    assert value(found, "dlq_messages_total", state="discarded") == 0
    assert value(found, "dlq_messages_added_total", service="payments") == 14
    assert value(found, "dlq_ledger_accepted_total", service="payments") == 14
    assert value(found, "dlq_ledger_letters", service="mail", account="resolved") > 0
    assert value(found, "dlq_ledger_balance", service="mail") == 0
    assert value(found, "dlq_ledger_balanced", service="mail") == 1
    assert value(found, "dlq_sources") == 0
    assert value(found, "dlq_source_entries_missing") == value(found, "dlq_source_entries_lost") == 0
    assert value(found, "regrow_job_duration_seconds", job="cleanup_temp_files") == 0.42
    assert value(found, "regrow_job_last_outcome", job="cleanup_temp_files", outcome="succeeded") == 1
    assert value(found, "regrow_job_last_run_timestamp_seconds", job="prune_history") is None
    assert value(found, "regrow_health_status", status="degraded") == 1


def test_exactly_one_status_of_a_check_and_one_state_of_a_breaker_holds(holder: TestClient) -> None:
    for name, label in (("health_check_status", "check"), ("circuit_breaker_state", "breaker")):
        held: dict[str, float] = {}
        for sample in families(holder)[name].samples:
            held[sample.labels[label]] = held.get(sample.labels[label], 0) + sample.value
        assert held
        assert set(held.values()) == {1}


def test_every_family_has_help_and_only_counters_are_called_counters(holder: TestClient) -> None:
    found = families(holder)
    assert all(family.documentation for family in found.values())
    types = {name: family.type for name, family in found.items()}
    assert {name for name, kind in types.items() if kind == "counter"} == {
        "alert_notices",
        "circuit_breaker_failures",
        "circuit_breaker_rejected",
        "circuit_breaker_requests",
        "circuit_breaker_transitions",
        "degradation_events",
        "degradation_refused",
        "dlq_ledger_accepted",
        "dlq_ledger_purged",
        "dlq_messages_added",
        "drains",
        "fallback_usage",
        "health_check",
        "http_requests",
        "http_requests_refused",
        "regrow_job_runs",
        "requests_shed",
        "regrow_recoveries",
        "retry_attempts",
        "retry_budget_refused",
        "retry_exhausted",
        "temp_files_freed_bytes",
        "temp_files_removed",
    }
    assert types["retry_delay_seconds"] == types["circuit_breaker_response_time"] == "histogram"
    assert types["dlq_messages_total"] == "gauge"


@pytest.fixture
def engine(make_client: MakeClient) -> Engine:
    return make_client().app.state.reader.engine  # type: ignore[attr-defined]


def test_counters_grow_with_what_is_done_and_survive_cleaning_up(
    engine: Engine, make_client: MakeClient
) -> None:
    client = make_client(engine=engine)
    message = captured.of_message({"task": "a.b"}, service="shop", event_id="one")
    service.capture(engine, message)
    service.capture(engine, message)  # told twice, kept once
    run_due(engine, force=True)
    with record(engine, "prune_history"):
        pass
    with pytest.raises(ValueError, match="told"), record(engine, "prune_history"):
        raise ValueError("told")

    before = samples(client)
    assert value(before, "dlq_messages_added_total", service="shop") == 1
    assert value(before, "regrow_job_runs_total", job="prune_history", outcome="succeeded") == 1
    assert value(before, "regrow_job_runs_total", job="prune_history", outcome="failed") == 1
    assert value(before, "health_check_total", check="redis", status="healthy") == 1

    letter = service.list_letters(engine)[0]
    service.discard(engine, letter.id, actor="a test", reason="to be forgotten")
    service.cleanup(engine, 0)
    run_due(engine, force=True)
    after = samples(client)
    assert value(after, "dlq_messages_added_total", service="shop") == 1
    assert value(after, "health_check_total", check="redis", status="healthy") == 2


def test_counting_never_stands_in_the_way(make_settings: object) -> None:
    away = Engine(make_settings("redis://127.0.0.1:1/0"))  # type: ignore[operator]
    counters.add(away, "regrow_job_runs_total", {"job": "x", "outcome": "y"})


def test_labels_are_escaped(engine: Engine, make_client: MakeClient) -> None:
    client = make_client(engine=engine)
    odd = 'a"b\\c\nd{é}'
    counters.add(engine, "dlq_messages_added_total", {"service": odd})
    assert value(samples(client), "dlq_messages_added_total", service=odd) == 1


def test_counts_of_another_version_are_left_out(engine: Engine, make_client: MakeClient) -> None:
    client = make_client(engine=engine)
    counters.add(engine, "health_check_total", {"check": "redis", "status": "healthy", "zone": "new"})
    counters.add(engine, "something_new_total", {"a": "b"})
    found = samples(client)
    assert not [key for key in found if key[0] in {"health_check_total", "something_new_total"}]


def test_counts_of_applications_are_served_with_the_pauses_as_a_histogram(
    engine: Engine, make_client: MakeClient
) -> None:
    engine.redis.hset(
        KEY,
        mapping={
            field_of("circuit_breaker_requests_total", {"breaker": "bank"}): 40,
            field_of("circuit_breaker_failures_total", {"breaker": "bank"}): 3,
            field_of("retry_attempts_total", {"function": "pay"}): 3,
            field_of("retry_delay_seconds_bucket", {"le": "0.5"}): 2,
            field_of("retry_delay_seconds_bucket", {"le": "inf"}): 1,
            field_of("retry_delay_milliseconds", {}): 400_800,
        },
    )
    found = samples(make_client(engine=engine))
    assert value(found, "circuit_breaker_requests_total", breaker="bank") == 40
    assert value(found, "circuit_breaker_failures_total", breaker="bank") == 3
    assert value(found, "retry_attempts_total", function="pay") == 3
    assert value(found, "retry_delay_seconds_bucket", le="0.25") == 0
    assert value(found, "retry_delay_seconds_bucket", le="60.0") == 2
    assert value(found, "retry_delay_seconds_bucket", le="+Inf") == 3
    assert value(found, "retry_delay_seconds_count") == 3
    assert value(found, "retry_delay_seconds_sum") == 400.8


def test_what_a_guarded_call_did_is_served_once_its_process_has_told_it(
    engine: Engine, make_client: MakeClient, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGROW_REDIS_URL", redis_url)
    reporter = Reporter(RedisStore.from_url(redis_url))
    bank = regrow.CircuitBreaker("bank", reporter=reporter, success_threshold=1, recovery_timeout=0.05)
    for _ in range(3):
        bank.call(int)
    bank.call(time.sleep, 0.02)
    with pytest.raises(ZeroDivisionError):
        bank.call(lambda: 1 / 0)
    assert bank.call(lambda: 1 / 0, fallback="later") == "later"
    reporter.flush()
    bank.force_open(actor="ann", expires_in=0.05)
    for _ in range(2):
        with pytest.raises(regrow.CircuitOpenError):
            bank.call(int)
    eventually(lambda: bank.call(int, fallback="refused") == 0, 10, what="a probe closes it")
    reporter.close()
    tallies.flush()
    monitor(engine)

    found = samples(make_client(engine=engine))
    made = value(found, "circuit_breaker_requests_total", breaker="bank")
    assert made is not None
    assert made >= 7
    assert value(found, "circuit_breaker_failures_total", breaker="bank") == 2
    assert value(found, "circuit_breaker_response_time_count", breaker="bank") == made, (
        "each call, probes too"
    )
    below = value(found, "circuit_breaker_response_time_bucket", breaker="bank", le="0.01")
    assert below is not None
    assert 1 <= below <= made - 1, "all but the one that slept, unless this machine was busy"
    took = value(found, "circuit_breaker_response_time_sum", breaker="bank")
    assert took is not None
    assert 0.02 <= took < 10
    refused = value(found, "circuit_breaker_rejected_total", breaker="bank")
    fell_back = value(found, "fallback_usage_total", service="bank")
    assert refused is not None
    assert fell_back is not None
    assert refused >= 3
    assert fell_back == refused - 2 + 1, "two refusals were raised; one failure was answered"
    assert value(found, "circuit_breaker_transitions_total", breaker="bank", to="open") == 1
    assert value(found, "circuit_breaker_transitions_total", breaker="bank", to="closed") == 1

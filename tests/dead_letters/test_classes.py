"""Which class a failure is of, and what follows: by names of classes and bases, never by words."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.dead_letters import policies, rules
from regrow.dead_letters.classes import BUILT_IN, STRATEGIES, Cause, classify, lineage_of
from regrow.dead_letters.rules import Past, Patience, State
from regrow.errors import CircuitOpenError, DeliveryFailedError, SettingsError, StoreUnavailableError
from regrow.failures import FailureClass
from regrow.retries import RetryPolicy
from regrow.settings import load_settings

NOW = datetime(2026, 5, 4, tzinfo=UTC)
BACKOFF = RetryPolicy(max_retries=3, base_delay=10, max_delay=100, jitter="equal")
PATIENCE = Patience(BACKOFF, min_age=3600, free=86400)


class Declined(ConnectionError):
    pass


def _answer(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://bank")
    response = httpx.Response(status, headers=headers, request=request)
    return httpx.HTTPStatusError("no", request=request, response=response)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ConnectionResetError(), "transient"),
        (TimeoutError(), "transient"),
        (Declined(), "transient"),
        (ConnectionRefusedError(), "dependency_down"),
        (StoreUnavailableError(), "dependency_down"),
        (CircuitOpenError("bank", 30), "breaker_refused"),
        (ssl.SSLCertVerificationError(), "transient"),
        (_answer(429), "rate_limited"),
        (_answer(503), "transient"),
        (_answer(503, **{"Retry-After": "7"}), "rate_limited"),
        (_answer(404), "unknown"),
        (ValueError("connection refused"), "unknown"),
        (TypeError(), "unknown"),
        (KeyError("x"), "unknown"),
        (FileNotFoundError(), "unknown"),
    ],
)
def test_the_built_in_registry_says_what_one_would_expect(error: Exception, found: str) -> None:
    assert classify(Cause.of(error), {}) == found


def test_no_common_error_of_python_is_quarantined_by_surprise() -> None:
    hopeless = {name for name, found in BUILT_IN.items() if STRATEGIES[found].most == 1}
    taken_back = {"TaskRevokedError", "TaskTerminatedError"}
    assert {name.rpartition(".")[2] for name in hopeless} == taken_back, "by a person"


def test_an_operators_word_on_a_class_holds_for_what_derives_from_it_and_no_more() -> None:
    mine = f"{Declined.__module__}.Declined"
    assert classify(Cause.of(Declined()), {mine: FailureClass.PERMANENT}) == "permanent"
    assert classify(Cause.of(ConnectionResetError()), {mine: FailureClass.PERMANENT}) == "transient"
    # The nearest name decides, whoever said it.
    assert classify(Cause.of(ConnectionRefusedError()), {"OSError": FailureClass.PERMANENT}) == (
        "dependency_down"
    )
    assert classify(Cause.of(_answer(422)), {"HTTP 422": FailureClass.PERMANENT}) == "permanent"


def test_names_are_matched_whole() -> None:
    assert classify(Cause(("shop.NotATimeoutError", "shop.TimeoutError")), {}) == "unknown"


def test_the_apps_own_word_comes_first() -> None:
    assert classify(Cause.of(ConnectionResetError(), "permanent"), {}) == "permanent"


def test_what_celery_could_not_send_between_processes_is_known_by_its_name() -> None:
    class Wrapper(Exception):
        exc_module, exc_cls_name = "builtins", "TimeoutError"

    assert lineage_of(Wrapper())[0] == "TimeoutError"


@given(st.lists(st.one_of(st.text(), st.integers(), st.none())), st.text(), st.floats() | st.text())
def test_whatever_comes_over_the_wire_is_read(names: list[object], told: str, after: float | str) -> None:
    read = Cause.read(names, told, after)  # type: ignore[arg-type]
    assert isinstance(classify(read, {}), FailureClass)
    assert len(read.lineage) <= 20


def _failed(error_class: str, behind: Exception | None = None) -> DeliveryFailedError:
    failed = DeliveryFailedError("no", error_class=error_class)
    failed.__cause__ = behind
    return failed


@pytest.mark.parametrize(
    ("failed", "found"),
    [
        (_failed("http.503"), "transient"),
        (_failed("http.429"), "rate_limited"),
        (_failed("http.404"), "unknown"),
        (_failed("shop.Odd", ConnectionRefusedError()), "dependency_down"),
        (_failed(""), "unknown"),
    ],
)
def test_what_failed_in_our_own_process_is_classed_alike(failed: DeliveryFailedError, found: str) -> None:
    assert classify(Cause.of_delivery(failed), {}) == found


def _after(cause: FailureClass, past: Past, retry_after: float | None = None) -> rules.Next:
    return rules.after_failure(cause, retry_after, past, PATIENCE, NOW, Random(7))


def _past(redrives: int = 0, waits: int = 0, of_class: int = 1, age: float = 0.0) -> Past:
    return Past(redrives, waits, of_class, age)


def test_dead_means_attempts_and_age() -> None:
    young, old = _past(redrives=30, age=3599), _past(redrives=3, age=3600)
    assert _after(FailureClass.TRANSIENT, young).state == State.PENDING
    assert _after(FailureClass.TRANSIENT, old).state == State.QUARANTINED
    assert _after(FailureClass.TRANSIENT, _past(redrives=2, age=10**6)).state == State.PENDING


def test_a_dependency_that_is_down_costs_nothing_until_patience_ends() -> None:
    for cause in (FailureClass.DEPENDENCY_DOWN, FailureClass.BREAKER_REFUSED):
        assert not rules.costs_attempt(cause, 86399, PATIENCE)
        assert _after(cause, _past(redrives=3, waits=500, age=86399)).state == State.PENDING
        assert rules.costs_attempt(cause, 86400, PATIENCE)
        assert _after(cause, _past(redrives=3, age=86400)).state == State.QUARANTINED


def test_permanent_at_once_and_poison_at_the_second_dead_worker() -> None:
    assert _after(FailureClass.PERMANENT, _past()).state == State.QUARANTINED
    assert _after(FailureClass.POISON, _past(of_class=1)).state == State.PENDING
    again = _after(FailureClass.POISON, _past(of_class=2))
    assert (again.state, "died twice" in str(again.reason)) == (State.QUARANTINED, True)


def test_retry_after_is_the_least_wait_and_a_day_the_longest() -> None:
    asked = _after(FailureClass.RATE_LIMITED, _past(), retry_after=500)
    assert asked.due_at is not None
    assert timedelta(seconds=500) <= asked.due_at - NOW <= timedelta(seconds=600)
    for_ever = _after(FailureClass.RATE_LIMITED, _past(), retry_after=1e12)
    assert for_ever.due_at == NOW + timedelta(days=1)


@given(
    st.sampled_from(FailureClass),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.floats(0, 1e9),
    st.none() | st.floats(0, 1e12),
)
def test_every_failure_has_a_next_step(cause, redrives, waits, of_class, age, asked) -> None:
    after = _after(cause, Past(redrives, waits, of_class, age), asked)
    if after.state == State.PENDING:
        assert after.due_at is not None
        assert NOW < after.due_at <= NOW + timedelta(days=1)
    else:
        assert (after.state, after.due_at) == (State.QUARANTINED, None)
        assert after.reason


def test_rank_orders_by_priority_within_a_bound_and_age_helps_within_one() -> None:
    def rank(priority: str, due: float = 0, age: float = 0) -> datetime:
        return rules.rank_of(NOW + timedelta(seconds=due), priority, age)  # type: ignore[arg-type]

    assert rank("high") < rank("normal") < rank("low")
    assert rank("low") < rank("high", due=3601), "an hour later, high comes after low"
    assert rank("normal", age=6000) < rank("normal", age=60)
    assert rank("normal", age=10**9) == rank("normal", age=6000), "bounded: it never overtakes everything"


def test_an_operator_declares_classes_and_paces_in_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "regrow.toml"
    file.write_text(
        '[dead_letters.classes]\n"shop.errors.CardDeclined" = "permanent"\n"HTTP 422" = "permanent"\n'
        "[dead_letters.services.bank]\nrate = 20\nslow_start = 0\n"
    )
    environ = {"REGROW_PROFILE": "testing", "REGROW_HOME": str(tmp_path), "REGROW_REDIS_URL": "redis://r"}
    chosen = load_settings(file, environ=environ).dead_letters
    declined = Cause(("shop.errors.CardDeclined", "shop.errors.ShopError"))
    assert policies.class_of(chosen, declined) == policies.class_of(chosen, Cause.of(_answer(422)))
    assert policies.class_of(chosen, declined) == "permanent"
    assert chosen.redrive("bank") == (20, chosen.burst, 0)
    assert chosen.redrive("mail") == (chosen.rate, chosen.burst, chosen.slow_start)
    file.write_text('[dead_letters.classes]\n"shop.errors.CardDeclined" = "hopeless"\n')
    with pytest.raises(SettingsError, match="CardDeclined"):
        load_settings(file, environ=environ)

"""``kind=``: settings for kinds of service."""

from __future__ import annotations

import pytest

from regrow.breakers import KINDS, BreakerConfig, CircuitBreaker
from regrow.breakers.reporter import Reporter
from regrow.errors import SettingsError


@pytest.mark.parametrize(
    ("kind", "failures", "seconds", "successes"),
    [
        ("messaging", 5, 60, 3),
        ("ai", 3, 120, 3),
        ("database", 10, 30, 3),
        ("document_conversion", 3, 120, 2),
        ("model_server", 5, 60, 3),
    ],
)
def test_a_kind_brings_its_settings(kind, failures, seconds, successes):
    config = CircuitBreaker("x", kind=kind, reporter=Reporter()).config
    assert (config.failure_threshold, config.recovery_timeout, config.success_threshold) == (
        failures,
        seconds,
        successes,
    )


def test_what_is_given_is_stronger_than_the_kind():
    breaker = CircuitBreaker("x", kind="ai", failure_threshold=7, timeout=None, reporter=Reporter())
    assert (breaker.config.failure_threshold, breaker.config.recovery_timeout) == (7, 120)
    assert breaker.config.timeout is None


def test_an_unknown_kind_names_those_that_there_are():
    with pytest.raises(SettingsError, match=r"'fax' is no kind of service.*messaging, ai, database"):
        CircuitBreaker("x", kind="fax", reporter=Reporter())


def test_every_kind_can_be_used_as_it_is():
    assert len({BreakerConfig.from_dict(dict(given)) for given in KINDS.values()}) >= 4


def test_a_breaker_of_a_kind_trips_by_it(make_reporter):
    breaker = CircuitBreaker("x", kind="ai", reporter=make_reporter())

    def fail():
        raise OSError("down")

    for _ in range(3):
        assert breaker.state == "closed"
        with pytest.raises(OSError, match="down"):
            breaker.call(fail)
    assert breaker.state == "open"

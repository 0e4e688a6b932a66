from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from regrow.breakers.reporter import Reporter
from regrow.breakers.service import CircuitBreaker
from tests.breakers.conftest import make_reporter

__all__ = ["make_reporter"]


@pytest.fixture
def make(make_reporter: Callable[..., Reporter]) -> Callable[..., CircuitBreaker]:
    """Breakers of one process without Redis, which open soon."""
    reporter = make_reporter()

    def breaker(name: str = "messaging", **settings: Any) -> CircuitBreaker:
        settings = {"failure_threshold": 2, "recovery_timeout": 9.2, "success_threshold": 1, **settings}
        return CircuitBreaker(name, reporter=reporter, **settings)

    return breaker

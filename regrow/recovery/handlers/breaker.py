"""Nothing is done but the test, which follows; when it passes, the breaker is reset."""

from __future__ import annotations

from regrow.engine import Engine
from regrow.recovery.model import Acted, Recovery
from regrow.settings.recovery import BreakerHandler


def act(handler: BreakerHandler, recovery: Recovery, engine: Engine) -> Acted:
    del handler, recovery, engine
    return Acted(ok=True, message="tested")


def target(handler: BreakerHandler) -> str:
    del handler
    return "test it, and reset its breaker when the test passes"

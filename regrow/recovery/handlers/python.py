"""A function of the app's, called in a process of its own: it can be ended, and harms nothing but itself.

What it returns is the verdict: nothing or True means done, False means not; a text is the message. What it
raises means not done, and its traceback is kept.
"""

from __future__ import annotations

import json
import os
import sys

from regrow.engine import Engine
from regrow.recovery.handlers import command
from regrow.recovery.model import Acted, Recovery
from regrow.settings.recovery import PythonHandler


def act(handler: PythonHandler, recovery: Recovery, engine: Engine) -> Acted:
    del engine
    facts = {
        "id": recovery.id,
        "service": recovery.service,
        "attempt": recovery.attempt,
        "trigger": recovery.trigger,
        "reason": recovery.reason,
        "failed_at": recovery.failed_at.isoformat() if recovery.failed_at else None,
    }
    argv = [sys.executable, "-m", "regrow.recovery.calling", handler.function, json.dumps(facts)]
    acted = command.run(argv, timeout=handler.timeout, cwd=os.getcwd(), env=dict(os.environ))  # noqa: PTH109
    return Acted(acted.ok, acted.message, {**acted.evidence, "argv": [handler.function], "arguments": 0})


def target(handler: PythonHandler) -> str:
    return f"call {handler.function}"

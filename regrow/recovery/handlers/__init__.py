"""The handlers: one kind a file, imported when a handler of that kind first runs.

A handler is ``act(handler, recovery, engine) -> Acted``. It ends within ``handler.timeout``. What it could
not do is an ``Acted`` that is not ok; what it raises is a defect, and counts as failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from regrow.engine import Engine
from regrow.recovery.model import Acted, Recovery
from regrow.settings import HandlerSettings

# A new kind: its settings in regrow/settings/recovery.py, its module here.
MODULES: Mapping[str, str] = {
    "breaker": "breaker",
    "database": "database",
    "command": "command",
    "http": "http",
    "python": "python",
}


def act(handler: HandlerSettings, recovery: Recovery, engine: Engine) -> Acted:
    """Do what the handler declares, once."""
    module = import_module(f"{__name__}.{MODULES[handler.kind]}")
    acted: Acted = module.act(handler, recovery, engine)
    return acted


def target(handler: HandlerSettings) -> str:
    """What the handler would do, for people, without secrets."""
    module = import_module(f"{__name__}.{MODULES[handler.kind]}")
    told: str = module.target(handler)
    return told

"""The probes: one kind of check a file, imported when a check of that kind is first run.

A probe is ``probe(check, settings) -> Finding``. It opens what it needs itself and closes it again, so that
it sees what a newcomer would see and not the state of some pool. Trouble of the *watched thing* is
``unhealthy``; a probe that could not be made (a bug, a resource of ours) raises, which becomes ``unknown``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from regrow.health.rules import Finding

if TYPE_CHECKING:  # `regrow health celery-worker --local` reads a file, and no settings
    from regrow.settings import CheckSettings, Settings

# A new kind: its settings in regrow/settings/checks.py, its module here.
MODULES: Mapping[str, str] = {
    "redis": "redis",
    "database": "database",
    "queue": "queue",
    "celery_worker": "celery_worker",
    "celery_beat": "celery_beat",
    "disk": "disk",
    "memory": "memory",
    "cpu": "cpu",
    "temp_files": "temp_files",
    "http": "http",
    "tcp": "tcp",
}


def probe_of(check: CheckSettings, settings: Settings) -> Callable[[], Finding]:
    """The probe of one declared check, ready to be called. Its module is imported by the call."""
    return partial(_probe, check, settings)


def _probe(check: CheckSettings, settings: Settings) -> Finding:
    module = import_module(f"{__name__}.{MODULES[check.kind]}")
    found: Finding = module.probe(check, settings)
    return found

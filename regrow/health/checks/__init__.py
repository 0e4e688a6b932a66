"""The probes: one kind of check a file, imported when a check of that kind is first run.

A probe is ``probe(check, settings) -> Finding``, plain and blocking, or, of the kinds in ``ASYNC``,
``async probe(check, settings, clients) -> Finding``. It opens what it needs itself and closes it again, so
that it sees what a newcomer would see and not the state of some pool (HTTP alone shares its clients).
Trouble of the *watched thing* is ``unhealthy``; a probe that could not be made (a bug, a resource of ours)
raises, which becomes ``unknown``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from regrow.health.rules import Finding

if TYPE_CHECKING:  # `regrow health celery-worker --local` reads a file, and no settings
    from regrow.outgoing import Clients
    from regrow.settings import CheckSettings, Settings

# A new kind: its settings in regrow/settings/checks/, its module here.
MODULES: Mapping[str, str] = {
    "redis": "redis",
    "database": "database",
    "mysql": "database",
    "queue": "queue",
    "celery_worker": "celery_worker",
    "celery_beat": "celery_beat",
    "canary": "canary",
    "disk": "disk",
    "memory": "memory",
    "cpu": "cpu",
    "load": "load",
    "temp_files": "temp_files",
    "process": "process",
    "http": "http",
    "tcp": "tcp",
    "dns": "dns",
    "command": "command",
    "python": "python",
}

ASYNC = frozenset({"http"})
"""The kinds whose probe is a coroutine function: hundreds of them wait in one thread."""


_LOOKS = frozenset({"celery_worker", "queue", "canary"})
"""The kinds whose probe leaves something behind, and that can be looked at without it (``look``)."""


def probe_of(check: CheckSettings, settings: Settings) -> Callable[[], Finding]:
    """The probe of one declared check, ready to be called; it blocks. Its module is imported by the call."""
    return partial(_probe, check, settings)


def look_of(check: CheckSettings, settings: Settings) -> Callable[[], Finding]:
    """The same for who passes by, every few seconds: no worker is pinged, no canary sent, nothing kept."""
    return partial(_look, check, settings) if check.kind in _LOOKS else probe_of(check, settings)


async def probe_async(check: CheckSettings, settings: Settings, clients: Clients) -> Finding:
    """The probe of a check of a kind in ``ASYNC``, with the clients of this event loop."""
    found: Finding = await _module(check.kind).probe(check, settings, clients)
    return found


def _probe(check: CheckSettings, settings: Settings) -> Finding:
    if check.kind in ASYNC:
        return _alone(check, settings)
    found: Finding = _module(check.kind).probe(check, settings)
    return found


def _look(check: CheckSettings, settings: Settings) -> Finding:
    found: Finding = _module(check.kind).look(check, settings)
    return found


def _alone(check: CheckSettings, settings: Settings) -> Finding:
    import asyncio

    from regrow.outgoing import clients

    async def once() -> Finding:
        async with clients() as made:
            return await probe_async(check, settings, made)

    return asyncio.run(once())


def _module(kind: str) -> Any:
    return import_module(f"{__name__}.{MODULES[kind]}")

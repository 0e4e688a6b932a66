"""The services that ``[recovery.services]`` declares, with everything that follows from other settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from regrow.recovery.graph import parents_of_services
from regrow.recovery.model import Envelope
from regrow.settings import HandlerSettings, Settings
from regrow.settings.recovery import breaker_of, check_of, longest, test_of


@dataclass(frozen=True)
class Service:
    """One service: what starts its handler, what tells whether it is back, how often it is tried.

    ``breaker``, ``check``, ``test`` are names, None where there is none. ``parents``: services that come
    first. ``longest``: seconds that an attempt may take.
    """

    name: str
    handler: HandlerSettings = field(repr=False)
    breaker: str | None
    check: str | None
    test: str | None
    envelope: Envelope
    parents: tuple[str, ...]
    longest: float


def services(settings: Settings) -> dict[str, Service]:
    """The enabled services by name."""
    recovery, checks = settings.recovery, settings.health.checks
    handlers = {name: handler for name, handler in recovery.services.items() if handler.enabled}
    watched = {name for name, check in checks.items() if check.enabled}
    checked = {
        name: check
        for name, handler in handlers.items()
        if (check := check_of(name, handler, watched)) is not None
    }
    parents = parents_of_services(
        {name: handler.depends_on for name, handler in handlers.items()},
        checked,
        {name: check.depends_on for name, check in checks.items()},
    )
    timeouts = {name: check.timeout for name, check in checks.items()}
    found = {}
    for name, handler in handlers.items():
        test = test_of(name, handler, checks)
        found[name] = Service(
            name=name,
            handler=handler,
            breaker=breaker_of(name, handler),
            check=checked.get(name),
            test=test,
            envelope=Envelope(
                interval=handler.interval or recovery.interval,
                max_attempts=handler.max_attempts or recovery.max_attempts,
                backoff=handler.backoff or recovery.backoff,
            ),
            parents=parents[name],
            longest=longest(handler, timeouts, test),
        )
    return found

"""Recovery handlers that are well in themselves and not beside the checks, each other and Celery's limits."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from regrow.arrows import circle_among
from regrow.settings.models import Settings
from regrow.settings.recovery import (
    PROVES_ITSELF,
    HandlerSettings,
    HttpHandler,
    check_of,
    longest,
    test_of,
)
from regrow.settings.sources import Layers, Place

LONGEST_NAME = 100


def contradictions_of_recovery(layers: Layers, settings: Settings) -> Iterable[str]:
    """One line for each: the place, the key, the remedy."""
    for name, handler in settings.recovery.services.items():
        place: Place = ("recovery", "services", name)
        where = f"{layers.origin(place)}: {'.'.join(place)}"
        for problem in _problems(name, handler, settings):
            yield f"{where}{problem}"
    yield from _circles(layers, settings)
    yield from _starving(layers, settings)


def _circles(layers: Layers, settings: Settings) -> Iterable[str]:
    """Services that wait for each other: by what they name, by what their checks depend on, or by both."""
    checks = settings.health.checks
    handlers = {name: handler for name, handler in settings.recovery.services.items() if handler.enabled}
    watched = {name for name, check in checks.items() if check.enabled}
    users: dict[str, list[str]] = {}
    arrows: dict[str, list[str]] = {}
    for name, handler in handlers.items():
        check = check_of(name, handler, watched)
        users.setdefault(check or "", []).append(name)
        below = checks[check].depends_on if check in checks else ()
        arrows[name] = [*handler.depends_on, *map(_check, below)]
    for name, told in checks.items():
        arrows[_check(name)] = [*users.get(name, ()), *map(_check, told.depends_on)]
    circle = circle_among(arrows)
    first = next((name for name in circle if name in handlers), None)
    if first is not None:  # one of checks alone is told as such
        place = ("recovery", "services", first, "depends_on")
        yield (
            f"{layers.origin(place)}: {'.'.join(place)} goes in a circle: {' -> '.join(circle)}. "
            "Take one of them out: what is mended first must be the end of the line."
        )


def _check(name: str) -> str:
    return f"check {name}"  # no name of a service has a space


def _starving(layers: Layers, settings: Settings) -> Iterable[str]:
    """Handlers run in the pool that the checks run in: one place must be left for these."""
    handlers, pool = settings.recovery.concurrency, settings.celery.concurrency
    if handlers >= pool and any(handler.enabled for handler in settings.recovery.services.values()):
        origin = layers.latest(("recovery", "concurrency"), ("celery", "concurrency"))
        yield (
            f"{origin}: recovery.concurrency ({handlers}) must be below celery.concurrency ({pool}): "
            "handlers that take their time would hold up the checks. Change one of them."
        )


def _problems(name: str, handler: HandlerSettings, settings: Settings) -> Iterable[str]:
    yield from _unknown_names(name, handler, settings)
    checks = settings.health.checks
    test = test_of(name, handler, checks)
    if test is None and handler.kind not in PROVES_ITSELF:
        yield (
            " says nothing that tells whether the service is back. Name a health check with test; "
            "one with enabled = false will do."
        )
    if handler.breaker == "" and check_of(name, handler, checks) is None:
        yield " has neither breaker nor check that could start it. Name one."
    timeouts = {check: settings.health.checks[check].timeout for check in checks}
    bound, limit = longest(handler, timeouts, test), settings.celery.task_soft_time_limit
    if bound >= limit:
        yield (
            f" may take {bound:g} s (timeout, settle, its checks), and celery.task_soft_time_limit is "
            f"{limit:g}. Shorten timeout or settle."
        )
    if isinstance(handler, HttpHandler) and not _is_safe(handler, settings):
        yield ".url: it is asked over https, but for loopback addresses and the testing profile. Use https."


def _unknown_names(name: str, handler: HandlerSettings, settings: Settings) -> Iterable[str]:
    checks, services = settings.health.checks, settings.recovery.services
    if len(name) > LONGEST_NAME or not name.isprintable() or any(char in "{}/ " for char in name):
        yield f": a service has a name of 1 to {LONGEST_NAME} characters, none of them a space, / or brace."
    for key in ("check", "test", "precondition"):
        named = getattr(handler, key)
        if named is not None and named not in checks:
            yield f".{key} = {named!r} is no health check. Declare [health.checks.{named}]."
    if handler.check in checks and not checks[handler.check].enabled:
        yield f".check = {handler.check!r} is not enabled, so it never fails. Enable it, or name it as test."
    for parent in handler.depends_on:
        if parent not in services:
            yield f".depends_on names {parent!r}, which is not declared under [recovery.services]."


def _is_safe(handler: HttpHandler, settings: Settings) -> bool:
    if handler.url.scheme == "https" or settings.profile == "testing":
        return True
    host = (handler.url.host or "").strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

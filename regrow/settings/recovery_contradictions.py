"""Recovery handlers that are well in themselves and not beside the checks, each other and Celery's limits."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from ipaddress import ip_address

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
    try:
        graph = {name: handler.depends_on for name, handler in settings.recovery.services.items()}
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        place = ("recovery", "services", circle[0], "depends_on")
        yield (
            f"{layers.origin(place)}: {'.'.join(place)} goes in a circle: {' -> '.join(circle)}. "
            "Take one of them out: what is mended first must be the end of the line."
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

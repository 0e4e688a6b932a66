"""Checks, weights, routes and brokers that are well in themselves and not beside each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from ipaddress import ip_address

from regrow.arrows import circle_among
from regrow.settings.models import Settings
from regrow.settings.routes import AmqpRoute, WebhookRoute, is_rabbitmq
from regrow.settings.sources import Layers, Place


def contradictions_of_startup(layers: Layers, settings: Settings) -> Iterable[str]:
    """Dependencies at start-up are checks that are declared, each either required or optional."""
    startup, checks = settings.startup, settings.health.checks
    for kind in ("required", "optional"):
        for name in getattr(startup, kind):
            if name not in checks:
                known = ", ".join(sorted(checks))
                yield (
                    f"{layers.origin(('startup', kind))}: startup.{kind} names {name!r}, which is no check. "
                    f"Declare [health.checks.{name}], or name one of {known}."
                )
    for name in sorted({*startup.required} & {*startup.optional}):
        yield (
            f"{layers.origin(('startup', 'optional'))}: startup.optional names {name!r}, "
            "which startup.required names too. Take one out."
        )


def contradictions_of_routes(layers: Layers, settings: Settings) -> Iterable[str]:
    """One line for each: the place, the key, the remedy."""
    letters = settings.dead_letters
    users: dict[Place, str | None] = {
        ("dead_letters", "routes", name): getattr(route, "broker", None)
        for name, route in letters.routes.items()
    }
    users |= {("dead_letters", "queues", name): queue.broker for name, queue in letters.queues.items()}
    for place, alias in users.items():
        key = ".".join(place)
        if alias is not None and alias not in settings.brokers:
            origin = layers.origin((*place, "broker"))
            yield _undeclared(origin, f"{key}.broker", alias)
        elif _needs_rabbitmq(place, settings) and not is_rabbitmq(settings.broker_url(alias)):
            yield (
                f"{layers.origin(place)}: {key} needs RabbitMQ, and its broker is none. "
                "Name one of [brokers] with broker."
            )
    for name, route in letters.routes.items():
        if isinstance(route, WebhookRoute) and not _is_safe(route, settings):
            place = ("dead_letters", "routes", name, "url")
            yield (
                f"{layers.origin(place)}: {'.'.join(place)}: letters travel over https, but for loopback "
                "addresses and the testing profile. Use https."
            )


def contradictions_of_degradation(layers: Layers, settings: Settings) -> Iterable[str]:
    """Names of no check, and a level that would be unknown between two looks."""
    chosen, tick = settings.degradation, settings.schedule.evaluate_degradation
    for name in sorted(chosen.weights.keys() - settings.health.checks.keys()):
        place = ("degradation", "weights", name)
        yield f"{layers.origin(place)}: {'.'.join(place)}: no check is called {name}. Correct the name."
    if chosen.hold < 2 * tick:
        origin = layers.latest(("degradation", "hold"), ("schedule", "evaluate_degradation"))
        yield (
            f"{origin}: degradation.hold ({chosen.hold:g}) must be at least twice "
            f"schedule.evaluate_degradation ({tick:g}). Change one of them."
        )


def _undeclared(origin: str, key: str, alias: str) -> str:
    return f"{origin}: {key} = {alias!r} is not declared. Write [brokers.{alias}] with its url."


def _needs_rabbitmq(place: Place, settings: Settings) -> bool:
    """Queues do; a route to an exchange does where it names its broker, and may learn it from the letter."""
    if place[1] == "queues":
        return True
    route = settings.dead_letters.routes[place[2]]
    return isinstance(route, AmqpRoute) and route.broker is not None


def _is_safe(route: WebhookRoute, settings: Settings) -> bool:
    secret = route.url.scheme == "https" or settings.profile == "testing"
    return secret or is_loopback((route.url.host or "").strip("[]"))


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def contradictions_of_checks(layers: Layers, settings: Settings) -> Iterable[str]:
    """One line for each check that depends on what is not there, and for each circle of checks."""
    checks = settings.health.checks
    for name, check in checks.items():
        for parent in dict.fromkeys(check.depends_on):
            if parent not in checks:
                yield f"{_depends_on(layers, name)} names {parent!r}, {_no_check(parent, checks)}"
        alias = getattr(check, "broker", None)
        if alias is not None and alias not in settings.brokers:
            place = ("health", "checks", name, "broker")
            yield _undeclared(layers.origin(place), ".".join(place), alias)
    if circle := circle_among({name: check.depends_on for name, check in checks.items()}):
        yield (
            f"{_depends_on(layers, circle[0])} goes in a circle: {' -> '.join(circle)}. "
            "Take one of them out: what fails first must be the end of the line."
        )


def contradictions_of_maintenance(layers: Layers, settings: Settings) -> Iterable[str]:
    """One line for each window that holds for nothing, or for what is not there."""
    checks = settings.health.checks
    for name, window in settings.maintenance.items():
        place = ("maintenance", name)
        where = f"{layers.origin(place)}: {'.'.join(place)}"
        for check in window.checks:
            if check not in checks:
                yield f"{where}.checks names {check!r}, {_no_check(check, checks)}"
        named = any(name in check.maintenance for check in checks.values())
        if not (window.checks or window.labels or window.everything or named):
            yield f"{where} holds for nothing. Say checks, labels or everything = true, or name it in one."
    for check, told in checks.items():
        for name in told.maintenance:
            if name not in settings.maintenance:
                at = ("health", "checks", check, "maintenance")
                known = ", ".join(sorted(settings.maintenance)) or "none"
                yield (
                    f"{layers.origin(at)}: {'.'.join(at)} names {name!r}, which is no window. "
                    f"Known here: {known}. Declare [maintenance.{name}]."
                )


def contradictions_of_slo(layers: Layers, settings: Settings) -> Iterable[str]:
    """One line for each promise about checks that are not there."""
    checks = settings.health.checks
    services = {name for check in checks.values() if (name := check.labels.get("service"))}
    for name, told in settings.slo.objectives.items():
        place = ("slo", "objectives", name)
        where = f"{layers.origin(place)}: {'.'.join(place)}"
        for check in told.checks:
            if check not in checks:
                yield f"{where}.checks names {check!r}, {_no_check(check, checks)}"
        if told.labels and not any(told.labels.items() <= check.labels.items() for check in checks.values()):
            words = ", ".join(f"{key}={value}" for key, value in told.labels.items())
            yield f"{where}.labels: no check bears {words}. Correct it, or label the checks that it is about."
        about_checks = told.kind == "availability" and told.service is not None
        if about_checks and told.service not in {*checks, *services}:
            yield (
                f"{where}.service names {told.service!r}, which is neither a check nor any check's label "
                f"`service`. Correct it, or write labels = {{ service = {told.service!r} }} in its checks."
            )
        if told.kind == "availability" and told.seconds > 86_400 * settings.slo.spans_days:
            yield (
                f"{where}.window ({told.seconds:g}) is longer than slo.spans_days keeps "
                f"({settings.slo.spans_days} days). Change one of them."
            )


def _depends_on(layers: Layers, name: str) -> str:
    place = ("health", "checks", name, "depends_on")
    return f"{layers.origin(place)}: {'.'.join(place)}"


def _no_check(name: str, checks: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, checks, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(sorted(checks))}."
    return f"which is no check. {hint}"

"""Which service is mended before which: pure functions over what depends on what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from regrow.arrows import reached


def ancestors(name: str, parents: Mapping[str, Iterable[str]]) -> list[str]:
    """All that ``name`` depends on, the nearest first. Whatever goes in a circle is named once."""
    return reached(name, lambda one: parents.get(one, ()))


def blocked_by(name: str, parents: Mapping[str, Iterable[str]], down: Collection[str]) -> str | None:
    """The farthest service that ``name`` depends on and that is down: where the trouble begins."""
    return next((parent for parent in reversed(ancestors(name, parents)) if parent in down), None)


def parents_of_services(
    own: Mapping[str, Iterable[str]],
    checks: Mapping[str, str],
    depends_on: Mapping[str, Iterable[str]],
) -> dict[str, tuple[str, ...]]:
    """The parents of each service: those it names itself, and those whose check its check depends on.

    ``checks``: the check of each service that has one. ``depends_on``: of checks, to checks; one that belongs
    to no service passes on what it depends on itself.
    """
    services: dict[str, list[str]] = {}
    for service, check in checks.items():
        services.setdefault(check, []).append(service)
    return {
        name: tuple(
            dict.fromkeys(
                [
                    *parents,
                    *(
                        service
                        for check in ancestors(checks.get(name, ""), depends_on)
                        for service in services.get(check, ())
                        if service != name
                    ),
                ]
            )
        )
        for name, parents in own.items()
    }

"""Every error Regrow raises. This module imports nothing, so that anything may import it.

The docstring of a class is its default message.
"""

from __future__ import annotations


class RegrowError(Exception):
    """Something Regrow was asked to do could not be done."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SettingsError(RegrowError):
    """The settings are not usable."""


class StoreUnavailableError(RegrowError):
    """A store (Redis or the database) did not answer in time."""


class CircuitOpenError(RegrowError):
    """The circuit breaker refuses calls for now.

    ``name`` is the breaker's name, ``retry_after`` the seconds until a call may be worth trying.
    """

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(f"circuit breaker {name!r} is open; try again in {retry_after:.1f} s")
        self.name = name
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[CircuitOpenError], tuple[str, float]]:
        # Celery sends exceptions between processes; the default would lose both fields.
        return (type(self), (self.name, self.retry_after))


class LetterNotFoundError(RegrowError):
    """No dead letter or event has this id."""


class LetterRefusedError(RegrowError):
    """The message cannot be kept as a dead letter as it is."""


class TransitionRefusedError(RegrowError):
    """The dead letter is not in a state that allows this."""


class RouteError(RegrowError):
    """There is no way to send this dead letter home."""


class CheckNotFoundError(RegrowError):
    """No health check has this name."""


class ReportNotFoundError(RegrowError):
    """No report has this id."""

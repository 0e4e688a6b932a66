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


class SpoolUnavailableError(StoreUnavailableError):
    """The spool on this machine's disk takes nothing now."""


class KeyUnavailableError(StoreUnavailableError):
    """A key that dead letters are sealed with is missing or wrong: what needs it waits, nothing is lost."""


class DiskUnavailableError(StoreUnavailableError):
    """The disk takes no file for a capture that cannot be a letter. Others near it are none the worse."""


class CircuitOpenError(RegrowError):
    """The circuit breaker refuses calls for now.

    ``name`` is the breaker's name, ``retry_after`` the seconds until a call may be worth trying.
    ``recovering``: it has closed already, and lets calls back little by little (``ramp_seconds``).
    """

    def __init__(self, name: str, retry_after: float, recovering: bool = False) -> None:
        state = "has closed and lets calls back little by little" if recovering else "is open"
        super().__init__(f"circuit breaker {name!r} {state}; try again in {retry_after:.1f} s")
        self.name = name
        self.retry_after = retry_after
        self.recovering = recovering

    def __reduce__(self) -> tuple[type[CircuitOpenError], tuple[str, float, bool]]:
        # Celery sends exceptions between processes; the default would lose the fields.
        return (type(self), (self.name, self.retry_after, self.recovering))


class DegradedError(RegrowError):
    """The system is degraded, and this feature is off for now.

    ``feature`` is what was asked for, ``level`` the level that holds, ``worst`` the worst one at which the
    feature is on; ``retry_after`` the seconds until it may be worth asking again.
    """

    def __init__(self, feature: str, level: str, worst: str, retry_after: float = 30.0) -> None:
        super().__init__(f"{feature} is off: the level is {level}, and it needs {worst} or better")
        self.feature = feature
        self.level = level
        self.worst = worst
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[DegradedError], tuple[str, str, str, float]]:
        return (type(self), (self.feature, self.level, self.worst, self.retry_after))


class LetterNotFoundError(RegrowError):
    """No dead letter or event has this id."""


class LetterRefusedError(RegrowError):
    """The message cannot be kept as a dead letter as it is."""


class ArchiveError(RegrowError):
    """An archive of dead letters cannot be written, read or trusted."""


class TransitionRefusedError(RegrowError):
    """The dead letter is not in a state that allows this."""


class RouteError(RegrowError):
    """There is no way to send this dead letter home."""


class DeliveryFailedError(RegrowError):
    """The dead letter was delivered, and failed again.

    ``error_class`` is the name of what it failed with; ``retry_after`` the seconds until another try is worth
    it, if the receiver said so.
    """

    def __init__(
        self, message: str | None = None, *, error_class: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.retry_after = retry_after


class DeliveryRefusedError(RegrowError):
    """The receiver is well and will never take this dead letter; a person must look at it."""


class CheckNotFoundError(RegrowError):
    """No health check has this name."""


class ServiceNotFoundError(RegrowError):
    """No service with a recovery handler has this name."""


class RecoveryRefusedError(RegrowError):
    """The service cannot be recovered as it is now."""


class IncidentNotFoundError(RegrowError):
    """No incident has this id."""


class IncidentRefusedError(RegrowError):
    """The incident is not in a state that allows this."""


class AlertNotFoundError(RegrowError):
    """No alert has this id."""


class AlertRefusedError(RegrowError):
    """The alert is not in a state that allows this."""


class ReportNotFoundError(RegrowError):
    """No report has this id."""


class NoTimeError(RegrowError):
    """This process got too little CPU to wait for an answer: nothing is known of who was asked."""

"""What may be promised in ``[slo.objectives.NAME]``, and how long the figures behind it are kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from regrow import recurrence
from regrow.settings.checks.common import Seconds, Severity, Target
from regrow.settings.shapes import Zone

Kind = Literal["availability", "latency", "error_rate", "throughput"]
Days = Annotated[int, Field(ge=1)]
Window = Annotated[float, Field(ge=60, le=400 * 86_400)]

DAY = 86_400.0
WINDOWS: dict[Kind, float] = {
    "availability": 30 * DAY,
    "latency": DAY,
    "error_rate": 3_600.0,
    "throughput": 7 * DAY,
}
"""Seconds, where an objective says nothing else."""


class ObjectiveSettings(BaseModel):
    """A promise about checks (availability) or about the requests of a service (the other kinds)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "availability"
    """availability, latency, error_rate or throughput."""
    checks: tuple[str, ...] = ()
    """Availability: the checks it is about; the time of several adds up."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Availability: and those that bear all of these labels."""
    service: str | None = None
    """
    The service it is about. Availability: the check of that name and those labelled `service = NAME`; other
    kinds: the name that the application reports its requests under.
    """
    target: Target | None = None
    """
    The share, 0 to 1, of known time that is up, of requests that succeed or of those that are fast enough.
    None takes `reports.uptime_target`, for latency 0.95.
    """
    latency: Seconds | None = None
    """Latency: so many seconds are fast enough."""
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Throughput: requests a second, on average over the peak hours."""
    hours: str | None = None
    """Throughput: the peak hours on the clock of `zone`, as 09:00-17:00."""
    zone: Zone = "UTC"
    """A time zone of the IANA database, such as Europe/Berlin."""
    window: Window | None = None
    """
    Seconds until now that it is judged by. None: 30 days, for latency a day, for the error rate an hour, for
    throughput 7 days.
    """
    severity: Severity = "critical"
    """No alert about it is more severe than this."""
    exclude_maintenance: bool = True
    """Whether maintenance windows count neither for nor against it."""

    @property
    def seconds(self) -> float:
        """Its window."""
        return WINDOWS[self.kind] if self.window is None else self.window

    @field_validator("hours")
    @classmethod
    def _times(cls, value: str | None) -> str | None:
        if value is not None:
            recurrence.hours_of(value)
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {
            "availability": (),
            "latency": ("service", "latency"),
            "error_rate": ("service",),
            "throughput": ("service", "rate", "hours"),
        }[self.kind]
        if missing := [name for name in needed if getattr(self, name) is None]:
            msg = f"kind {self.kind} needs {' and '.join(missing)}"
            raise ValueError(msg)
        if self.kind == "availability" and not (self.checks or self.labels or self.service):
            msg = "it is about nothing; say checks, labels or service"
            raise ValueError(msg)
        foreign = {
            "checks": bool(self.checks) and self.kind != "availability",
            "labels": bool(self.labels) and self.kind != "availability",
            "latency": self.latency is not None and self.kind != "latency",
            "rate": self.rate is not None and self.kind != "throughput",
            "hours": self.hours is not None and self.kind != "throughput",
        }
        if wrong := [name for name, said in foreign.items() if said]:
            msg = f"kind {self.kind} has no {' and no '.join(wrong)}; take it out, or change the kind"
            raise ValueError(msg)
        return self


class SloSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    lateness: Seconds
    """An hour is closed so long after its end; results that come later amend it, and the reports of it."""
    spans_days: Days
    """How long the stretches of up, down and unknown are kept: what every figure can be made from again."""
    minutes_days: Days
    """How long sums by minute are kept."""
    hours_days: Days
    """How long sums by hour are kept."""
    days_days: Days
    """How long sums by day are kept."""
    objectives: dict[str, ObjectiveSettings]
    """What is promised, by a name of yours; see below. Every other check has an objective of its own name."""

    @model_validator(mode="after")
    def _outlives(self) -> Self:
        if not self.minutes_days <= self.hours_days <= self.spans_days:
            msg = (
                f"minutes_days ({self.minutes_days}) must not be above hours_days ({self.hours_days}), nor "
                f"that above spans_days ({self.spans_days}): what is coarser is made from what is finer"
            )
            raise ValueError(msg)
        return self

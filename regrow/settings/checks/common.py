"""What a check of any kind may declare, and the bounds that several kinds share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100)]
Times = Annotated[int, Field(ge=1, le=100)]
Target = Annotated[float, Field(gt=0, lt=1)]
Severity = Literal["critical", "high", "medium", "low"]


class Check(BaseModel):
    """What every check has. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """Whether it runs."""
    interval: Seconds | None = None
    """How often it runs; None takes `health.interval`. At least 10 s outside the testing profile."""
    timeout: Seconds = 5.0
    """Longest wait for its answer."""
    failures: Times = 3
    """Bad results in a row before the check counts as failing."""
    successes: Times = 2
    """Good results in a row before it counts as well again."""
    required: bool = False
    """A required check that is not healthy or degraded makes the whole system unhealthy."""
    depends_on: tuple[str, ...] = ()
    """Checks of what this one needs: while one of them fails, its failure is no incident of its own."""
    severity: Severity = "medium"
    """How bad its failure is: critical, high, medium or low."""
    slo: Target | None = None
    """The share of known time it should be up, 0 to 1; None takes `reports.uptime_target`."""
    maintenance: tuple[str, ...] = ()
    """Names of the maintenance windows that hold for it."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Words of your own, shown beside it."""


def ordered(warning: float | None, critical: float | None, names: str = "warning critical") -> None:
    """Refuse a warning that would come after what it warns of."""
    if warning is not None and critical is not None and warning > critical:
        first, second = names.split()
        msg = f"{first} ({warning:g}) must not be above {second} ({critical:g})"
        raise ValueError(msg)


class PercentCheck(Check):
    """Percent of a resource: from ``warning`` on degraded, from ``critical`` on unhealthy."""

    warning: Percent
    """Percent from which it is degraded."""
    critical: Percent
    """Percent from which it is unhealthy."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ordered(self.warning, self.critical)
        return self


class TimedCheck(Check):
    """What asks a server, and may find its answer slow."""

    slow: Seconds | None = None
    """An answer slower than this is degraded."""
    too_slow: Seconds | None = None
    """An answer slower than this is unhealthy."""

    @model_validator(mode="after")
    def _slow_comes_first(self) -> Self:
        ordered(self.slow, self.too_slow, "slow too_slow")
        return self


def compiled(pattern: str) -> str:
    """A regular expression that is one; ValueError says where it is none."""
    import regex

    try:
        regex.compile(pattern)
    except regex.error as error:
        msg = f"this is no regular expression: {error}"
        raise ValueError(msg) from None
    return pattern


Pattern = Annotated[str, AfterValidator(compiled)]
"""A regular expression, searched for (not anchored)."""

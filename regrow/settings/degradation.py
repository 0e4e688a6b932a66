"""``[degradation]``: when the level changes, and what each level permits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from regrow.degradation.permits import Kind, PathKinds
from regrow.settings.checks.common import Percent, Seconds

LevelName = Literal["normal", "minor", "moderate", "severe", "critical"]
KindName = Literal["status", "sign_in", "view", "read", "core", "extra"]
Delay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DegradationSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    minor: Percent
    """At this score or below, the level is minor."""
    moderate: Percent
    """At this score or below, it is moderate."""
    severe: Percent
    """At this score or below, it is severe."""
    critical: Percent
    """At this score or below, it is critical."""
    margin: Annotated[float, Field(ge=0, lt=50)]
    """How far beyond one of these scores it must be to change the level, in either direction."""
    worsen_after: Delay
    """How long it must be so before the level gets worse."""
    improve_after: Delay
    """How long it must be so before the level gets better."""
    required_weight: Weight
    """What a required check weighs."""
    optional_weight: Weight
    """What any other check weighs."""
    weights: dict[str, Weight]
    """What single checks weigh, by name; 0 leaves one out."""
    required_down: LevelName
    """At least this level while a required check is unhealthy."""
    when_unknown: LevelName
    """At least this level while the score cannot be told: checks unknown, the monitor silent, Redis away."""
    hold: Seconds
    """A level that nobody has confirmed for so long is unknown."""
    retention_days: Annotated[int, Field(ge=1)]
    """How long changes of the level are kept."""
    permits: dict[LevelName, tuple[KindName, ...]]
    """The kinds of requests that each level permits; see degradation.md."""
    paths: dict[str, KindName]
    """Path prefixes of applications, with or without a method, and their kind; see degradation.md."""
    features: dict[str, LevelName]
    """Features by name, and the worst level at which each is on."""

    @field_validator("paths")
    @classmethod
    def _readable(cls, paths: dict[str, str]) -> dict[str, str]:
        try:
            PathKinds(paths)
        except Exception as error:  # whatever is wrong with it, pydantic tells where
            raise ValueError(str(error)) from None
        return paths

    @model_validator(mode="after")
    def _ordered(self) -> DegradationSettings:
        scores = (self.minor, self.moderate, self.severe, self.critical)
        if sorted(scores, reverse=True) != list(scores) or len(set(scores)) < len(scores):
            raise ValueError("minor, moderate, severe and critical must be falling scores")
        if self.minor + self.margin >= 100:
            raise ValueError(f"with minor {self.minor:g} and margin {self.margin:g} nothing is ever normal")
        if self.critical - self.margin < 0:
            raise ValueError(
                f"with critical {self.critical:g} and margin {self.margin:g} nothing is ever critical"
            )
        if any(Kind.STATUS not in kinds for kinds in self.permits.values()):
            raise ValueError("permits: every level serves status, or nobody could tell why the rest is off")
        return self

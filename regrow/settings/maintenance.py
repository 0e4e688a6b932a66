"""What a recurring maintenance window may declare in ``[maintenance.NAME]``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from regrow import recurrence
from regrow.settings.shapes import Zone


class MaintenanceSettings(BaseModel):
    """A window that comes again. It holds for what it names, and for checks that name it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repeat: str
    """
    daily; weekly, Sunday; monthly, Sunday (the first); monthly, last Friday; monthly, 15;
    or a rule of RFC 5545.
    """
    hours: str
    """From and until on the clock of `zone`, as 02:00-04:00."""
    zone: Zone = "UTC"
    """A time zone of the IANA database, such as Europe/Berlin."""
    checks: tuple[str, ...] = ()
    """The checks it holds for."""
    labels: dict[str, str] = Field(default_factory=dict)
    """It holds for checks that bear all of these labels."""
    everything: bool = False
    """It holds for every check."""
    reason: str = ""
    """What is done in it, for people."""

    @field_validator("repeat")
    @classmethod
    def _days(cls, value: str) -> str:
        recurrence.rule_of(value)
        return value

    @field_validator("hours")
    @classmethod
    def _times(cls, value: str) -> str:
        recurrence.hours_of(value)
        return value

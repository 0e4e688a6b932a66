"""``[incidents]``: what is an incident, and how long they are kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from regrow.settings.checks.common import Seconds, Severity
from regrow.settings.shapes import Section


class IncidentSettings(Section):
    reopen_within: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The same failure so soon after the end of an incident is the same incident."""
    breaker_open_after: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """A breaker that stays open for so long is an incident."""
    breaker_severity: Severity
    """How bad that is, where no check of its service says so."""
    silent_after: Seconds
    """Without a result of any check for so long, the monitor is silent."""
    monitor_severity: Severity
    """How bad that is."""
    retention_days: Annotated[int, Field(ge=1)]
    """How long incidents are kept after their end."""

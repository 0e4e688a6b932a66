"""How dead letters are kept, redriven and forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from regrow.failures import FailureClass
from regrow.settings.checks.common import Seconds
from regrow.settings.routes import DeadLetterQueue, RouteSettings
from regrow.settings.shapes import Count, KeyId, Positive, Rate, Section


class RedriveSettings(Section):
    """How fast the letters of one service go home, where it is not as in `[dead_letters]`."""

    rate: Rate | None = None
    """Letters a second, at most."""
    burst: Positive | None = None
    """Letters at once, after a pause."""
    slow_start: Annotated[float, Field(ge=0)] | None = None
    """After its breaker closed, the rate rises from a tenth to the whole within so many seconds."""


class DeadLetterSettings(Section):
    max_retries: Count
    """Redrives before a letter waits for a person, unless its capture says another number."""
    unknown_retries: Count
    """The same for failures of no known class: few."""
    min_age: Annotated[float, Field(ge=0)]
    """A letter younger than this is redriven further though its redrives are used up."""
    patience: Seconds
    """While a letter is younger than this, a dependency that is down costs it no redrive."""
    base_delay: Seconds
    """Before the first redrive; doubled for each further one."""
    max_delay: Seconds
    """Longest pause between two redrives."""
    lease: Seconds
    """How long one worker may hold a letter before another may take it."""
    outcome_deadline: Seconds
    """How long a redriven letter may go without an outcome before it is due again."""
    copy_patience: Annotated[float, Field(ge=0)]
    """So much longer it is waited for, while nobody can tell whether its message waits or runs."""
    confirm: Literal["outcome", "publish"]
    """What settles a letter: its task's success, or the broker's word that it has the message."""
    max_body_bytes: Positive
    """Larger messages are refused, never cut."""
    batch_size: Positive
    """Letters leased at once."""
    drain_budget: Seconds
    """One run of the redrive job goes on with the next batch for at most so long."""
    max_generations: Positive
    """A message that comes back so often after it was settled waits for a person."""
    max_age_days: Positive
    """Settled letters are archived and purged after this; unsettled ones never."""
    archive: Annotated[str, Field(min_length=1)]
    """The folder of archives; a relative one lies in `home`. "off": purge without an archive."""
    tombstone_days: Positive
    """Purged letters are remembered for so long; what a spool held back for longer waits for a person."""
    rate: Rate
    """Letters a second that go home to one service, at most."""
    burst: Positive
    """Letters that go home to one service at once, after a pause."""
    slow_start: Annotated[float, Field(ge=0)]
    """After a service's breaker closed, the rate rises from a tenth to the whole within so many seconds."""
    classes: dict[str, FailureClass]
    """The class of failure by the dotted name of an exception class; see docs/dead-letters.md."""
    services: dict[str, RedriveSettings]
    """Rates by service; see below."""
    redact: tuple[str, ...]
    """Parts of names whose values people are not shown; see privacy.md."""
    redact_emails: bool
    """Whether addresses are hidden too."""
    keys: dict[KeyId, Path] = Field(default_factory=dict)
    """Keys that seal what letters say, id to secret file; the first one is current. See privacy.md."""
    spool_keys: dict[KeyId, Path] = Field(default_factory=dict)
    """Private keys that open the sealed spools of apps, id to secret file. See privacy.md."""
    routes: dict[str, RouteSettings]
    """Ways home by message type; see below."""
    queues: dict[str, DeadLetterQueue]
    """RabbitMQ's dead-letter queues that are taken from, by a name of yours; see below."""

    @model_validator(mode="after")
    def _outlives(self) -> DeadLetterSettings:
        if self.tombstone_days < self.max_age_days:
            msg = (
                f"tombstone_days ({self.tombstone_days}) must not be below max_age_days ({self.max_age_days})"
            )
            raise ValueError(msg)
        return self

    def redrive(self, service: str) -> tuple[float, int, float]:
        """Rate (letters a second), burst (letters) and slow start (seconds) of a service."""
        own = self.services.get(service, RedriveSettings())
        return (
            self.rate if own.rate is None else own.rate,
            self.burst if own.burst is None else own.burst,
            self.slow_start if own.slow_start is None else own.slow_start,
        )

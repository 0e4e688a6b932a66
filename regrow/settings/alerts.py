"""``[alerts]``: which rules watch, how bad each is, who is told when, and by which channels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, HttpUrl, SecretStr, field_validator, model_validator

from regrow.settings.checks.common import Seconds, Severity
from regrow.settings.shapes import Address, Section, SigningKeys, lines

RuleName = Literal[
    "incident",
    "monitor_silent",
    "uptime_under_target",
    "burn_rate",
    "breaker_open",
    "drain_timed_out",
    "checks_failing",
    "request_failures",
    "oldest_letter",
    "ledger_off",
    "recovery_locked",
    "disk_full_soon",
]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Delay = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Channel(Section):
    """What every channel has. Times in seconds."""

    enabled: bool = True
    """Whether anything is sent by it; what waits stays, and goes when it is on again."""
    timeout: Annotated[float, Field(gt=0, le=30)] = 5.0
    """Longest wait for its answer."""


class LogChannel(_Channel):
    """A line in the log: `alert.notice`."""

    kind: Literal["log"]


class WebhookChannel(_Channel):
    """A POST of JSON to an address of yours."""

    kind: Literal["webhook"]
    url: Address
    """Where to: https, but for loopback names and the testing profile. Redirects are not followed."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent along; secrets by ${VARIABLE} or NAME_file."""
    signing_keys: SigningKeys = ()
    """Each signs the request; as a list, or one a line in the file of `signing_keys_file`."""


class SlackChannel(_Channel):
    """An incoming webhook of Slack, or of what speaks like it."""

    kind: Literal["slack"]
    url: SecretStr
    """Its address, which is a secret: by ${VARIABLE} or `url_file`."""


class EmailChannel(_Channel):
    """A message by SMTP."""

    kind: Literal["email"]
    host: str
    """The mail server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is sealed; none is for loopback names and the testing profile."""
    ca_bundle: Path | None = None
    """TLS: certificates that are trusted beside the system's, in PEM."""
    user: str | None = None
    """Who signs in; without it nobody does."""
    password: SecretStr | None = None
    """By ${VARIABLE} or `password_file`."""
    sender: Annotated[str, Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")]
    """The address it comes from."""
    to: Annotated[tuple[Annotated[str, Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")], ...], Field(min_length=1)]
    """The addresses it goes to."""


class PagerDutyChannel(_Channel):
    """PagerDuty's Events API, version 2, which also calls people by phone."""

    kind: Literal["pagerduty"]
    routing_key: SecretStr
    """The integration key: by ${VARIABLE} or `routing_key_file`."""
    url: HttpUrl = HttpUrl("https://events.pagerduty.com/v2/enqueue")
    """Where it is asked."""


class AppriseChannel(_Channel):
    """Whatever Apprise can reach; needs the extra `regrow[apprise]`."""

    kind: Literal["apprise"]
    urls: Annotated[tuple[SecretStr, ...], BeforeValidator(lines), Field(min_length=1)]
    """Its addresses, which are secrets; as a list, or one a line in the file of `urls_file`."""


ChannelSettings = Annotated[
    LogChannel | WebhookChannel | SlackChannel | EmailChannel | PagerDutyChannel | AppriseChannel,
    Field(discriminator="kind"),
]


class StepSettings(Section):
    """One step of an escalation."""

    after: Delay
    """Seconds after the first notice, while nobody has acknowledged."""
    targets: tuple[str, ...] = ()
    """Who is meant, in words; they stand in the notice."""
    channels: tuple[str, ...]
    """The channels it goes by."""


class SeveritySettings(Section):
    response_time: Delay
    """Within which somebody should answer; stands in the notice."""
    steps: Annotated[tuple[StepSettings, ...], Field(min_length=1)]
    """Who is told when, the first at once."""

    @field_validator("steps")
    @classmethod
    def _in_order(cls, steps: tuple[StepSettings, ...]) -> tuple[StepSettings, ...]:
        times = [step.after for step in steps]
        if times != sorted(set(times)):
            raise ValueError("the steps must come in order, each later than the one before")
        return steps


class RuleSettings(Section):
    enabled: bool = True
    """Whether it watches."""
    severity: Severity
    """How bad it is, where what it watches does not say so itself."""
    hold: Delay
    """For so many seconds it must be so before anybody is told."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """From where on it is so; see alerts.md for its unit."""


class AlertSettings(Section):
    enabled: bool
    """Whether anything is watched and anybody told."""
    acknowledged_for: Seconds
    """An acknowledgement is over after this, and the escalation begins anew."""
    repeat: Seconds
    """After the last step, how often the first one is told again while nobody acknowledges."""
    flap_within: Seconds
    """What comes again so soon after it was over is flapping: one notice, until it was quiet for so long."""
    group_within: Delay
    """What one rule finds so soon after its last notice is not told by itself, but listed there."""
    lease: Annotated[float, Field(gt=0, le=600)]
    """A notice that a worker took and did not settle is another's after this; above every `timeout`."""
    longest_pause: Seconds
    """Between two tries of a channel that does not answer; the first is 15 s, each further one twice that."""
    fold_above: Annotated[int, Field(ge=1)]
    """When more notices than these wait for a channel, what is past is told in one digest."""
    retention_days: Annotated[int, Field(ge=1)]
    """How long alerts that are over are kept, with their notices."""
    rules: dict[RuleName, RuleSettings]
    """The rules by name; see below."""
    severities: dict[Severity, SeveritySettings]
    """Who is told, by severity; see below."""
    channels: dict[Name, ChannelSettings]
    """Channels by a name of yours; see below."""

    @model_validator(mode="after")
    def _outlives(self) -> AlertSettings:
        for name, channel in self.channels.items():
            # A sender may wait for the connection, the greeting and the answer in turn.
            if self.lease < 4 * channel.timeout:
                raise ValueError(
                    f"lease ({self.lease:g}) must be at least four times channels.{name}.timeout"
                )
        return self

    def unknown_channels(self) -> Iterable[tuple[str, int, str]]:
        """Severity, number of the step, and the name of a channel that is not declared."""
        for severity, chosen in self.severities.items():
            for number, step in enumerate(chosen.steps):
                for channel in step.channels:
                    if channel not in self.channels:
                        yield severity, number, channel

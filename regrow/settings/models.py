"""The shape of the settings: frozen, typed, with nothing unknown let through.

Defaults stand in ``regrow/defaults.toml``, where people can read them; here stand types and bounds.
Times are seconds, sizes are bytes, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from regrow.breakers.kinds import KINDS
from regrow.settings.alerts import AlertSettings
from regrow.settings.checks import CheckSettings
from regrow.settings.checks.common import Percent, Seconds
from regrow.settings.dead_letters import DeadLetterSettings, RedriveSettings
from regrow.settings.degradation import DegradationSettings
from regrow.settings.incidents import IncidentSettings
from regrow.settings.maintenance import MaintenanceSettings
from regrow.settings.recovery import HandlerSettings
from regrow.settings.routes import BrokerSettings, DeadLetterQueue, RouteSettings
from regrow.settings.shapes import Positive, Section, Share, Zone
from regrow.settings.slo import SloSettings
from regrow.settings.stores import CelerySettings, DatabaseSettings, RedisSettings
from regrow.settings.temp_files import TempFileRoot, TempFilesSettings

Profile = Literal["production", "development", "testing"]


class StartupSettings(Section):
    timeout: Seconds
    """How long worker, beat and web wait for Redis and the database."""
    interval: Seconds
    """How often they look."""
    required: tuple[str, ...] = ()
    """Checks of `[health.checks]` that they wait for too; `/health/ready` is 503 while one is not well."""
    optional: tuple[str, ...] = ()
    """Checks that are looked at as well, and only logged."""


class ShutdownSettings(Section):
    timeout: Seconds
    """How long work in hand is waited for; the container's grace period must be at least 15 s longer."""
    notice: Annotated[float, Field(ge=0, le=60)]
    """Web: how long new requests are still taken after readiness has begun to say no."""
    linger: Annotated[float, Field(ge=0, le=60)]
    """Web: how long new requests are answered with 503, at least, before it stops listening."""


class ScheduleSettings(Section):
    """Seconds between two runs of each scheduled job."""

    health_check_monitoring: Seconds
    """The job run that tells what the checks found; it runs what is due, too."""
    due_checks: Seconds
    """The tick at which due checks run, each by its own interval."""
    monitor_circuit_breakers: Seconds
    """Transitions into the history; idle open breakers moved on."""
    evaluate_degradation: Seconds
    """The score of all checks, and the level that follows from it."""
    process_dead_letter_queue_batch: Seconds
    """Due letters sent home."""
    cleanup_temp_files: Seconds
    """Temp files removed."""
    recover_services: Seconds
    """Services that are down looked at, attempts begun that are due."""
    follow_incidents: Seconds
    """What happened to checks, breakers and services followed into incidents."""
    evaluate_alerts: Seconds
    """Rules looked at, and whoever is to be told told."""
    probe_open_services: Seconds
    """Services behind open breakers tested; `recovery.probe_interval` says how often each one."""
    watch_trends: Seconds
    """Latency and failure rates looked at for early warnings."""
    forecast_capacity: Seconds
    """Trends looked for in the kept history; when a disk or the memory will be full."""
    fold_request_counts: Seconds
    """What the apps told of their requests added up, minute by minute."""
    roll_up_results: Seconds
    """Results turned into spans and sums, which uptime and budgets are made from."""
    generate_reliability_report: Seconds
    """The report of the last full hour."""
    cleanup_old_dlq_messages: Seconds
    """Letters settled long ago purged."""
    fold_dead_letter_ledger: Seconds
    """The ledger's deltas added up, and the books compared with the letters."""
    prune_history: Seconds
    """Reports, sums, history of jobs, checks, breakers, levels, recovery, acts by hand: deleted in time."""


class HealthSettings(Section):
    interval: Seconds
    """How often a check runs that says nothing else; at least 10 outside testing."""
    history_size: Positive
    """Results of each check kept in Redis for the live view."""
    concurrency: Positive
    """Checks that run at once on threads; HTTP checks have lanes of their own."""
    chunk_size: Positive
    """When more checks are due, they are split into tasks of so many at most, for all workers to share."""
    retention_days: Positive
    """How long results are kept in the database."""
    dead_man_url: SecretStr | None = None
    """Asked for after each run of the checks; whoever waits there raises the alarm when nothing comes."""
    changes_retention_days: Positive
    """How long changes of status are kept there."""
    flapping_from: Percent
    """A check whose last 21 results changed so much is flapping, percent; see health.md."""
    flapping_until: Percent
    """Below this it is steady again."""
    checks: dict[str, CheckSettings]
    """The checks by name; see below."""

    @model_validator(mode="after")
    def _steadies(self) -> HealthSettings:
        if self.flapping_until > self.flapping_from:
            msg = (
                f"flapping_until ({self.flapping_until:g}) must not be above "
                f"flapping_from ({self.flapping_from:g})"
            )
            raise ValueError(msg)
        return self

    @field_validator("dead_man_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("https://", "http://")):
            msg = "the URL must begin with https:// or http://"
            raise ValueError(msg)
        return value


class BreakerSettings(Section):
    kind: str | None = None
    """A kind of service: its settings hold where the table itself says nothing."""
    failure_threshold: Positive
    """Failures in a row that open it."""
    recovery_timeout: Seconds
    """How long it stays open before a probe."""
    success_threshold: Positive
    """Probes that must succeed to close it."""
    timeout: Seconds | None
    """A call that takes longer counts as failed."""
    window_size: Positive
    """The last calls of the whole fleet that count."""
    minimum_requests: Positive
    """Calls in the window before the failure rate counts."""
    failure_rate: Share
    """The share of failures that opens it."""
    slow_call_duration: Seconds | None = None
    """A call that takes longer counts as slow; without it, none does."""
    slow_call_rate: Share
    """The share of slow calls that opens it."""
    ramp_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """After it has closed, the share of calls let through grows to all in this time; 0: all at once."""
    half_open_max_calls: Positive
    """Probes at a time."""

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, value: str | None) -> str | None:
        if value is not None and value not in KINDS:
            raise ValueError(f"it is no kind of service; choose one of {', '.join(KINDS)}")
        return value


class RecoverySettings(Section):
    interval: Seconds
    """After the first attempt to recover a service, before the second."""
    max_attempts: Positive
    """Attempts before a person is called."""
    backoff: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    """Each pause is this much longer than the one before."""
    probe_interval: Seconds
    """How often a service is tested while its breaker is not closed."""
    concurrency: Positive
    """Handlers of the whole fleet that run at once; below `celery.concurrency`."""
    per_minute: Positive
    """Handlers of the whole fleet that begin in any minute."""
    retention_days: Positive
    """How long attempts and events are kept."""
    services: dict[str, HandlerSettings]
    """Recovery handlers by service; see below."""


class ReportSettings(Section):
    uptime_target: Annotated[float, Field(gt=0, lt=1)]
    """The share of known time that a check should be up."""
    zone: Zone
    """Whose days and months reports are of: a time zone of the IANA database, such as Europe/Berlin."""
    retention_days: Positive
    """How long hourly reports, and those made by hand up to now, are kept."""
    daily_retention_days: Positive
    """How long daily reports are kept."""
    monthly_retention_days: Positive
    """How long monthly reports are kept."""


class WebSettings(Section):
    host: str
    """The address that the page listens on."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Its port."""
    api_key: SecretStr | None = None
    """Opens details, metrics and every act by hand."""
    intake_key: SecretStr | None = None
    """Opens `POST /dead-letters` and nothing else; see intake.md."""
    allowed_hosts: tuple[str, ...]
    """Host names the page answers to. Empty: loopback names when bound to loopback, else any."""
    max_content_length: Positive
    """Largest request body."""


class JobSettings(Section):
    retention_days: Positive
    """How long job runs are kept."""


class HistorySettings(Section):
    breakers_days: Positive
    """How long transitions of breakers are kept; the last one of each breaker stays."""
    audit_days: Positive
    """How long it is kept who did what by hand."""
    request_minutes_days: Positive
    """How long the figures of requests, and counts of retries and fallbacks, are kept by minute."""
    request_hours_days: Positive
    """How long they are kept by hour."""


class LogSettings(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    """The least severe records that are written."""
    format: Literal["auto", "json", "pretty"]
    """auto: pretty on a terminal and outside production, JSON else."""


class Settings(Section):
    """Everything one can set. Made by :func:`regrow.settings.load_settings`."""

    profile: Profile
    """production, development or testing."""
    home: Path
    """The state folder: heartbeats, the local database, what could not be filed."""
    redis: RedisSettings
    database: DatabaseSettings
    celery: CelerySettings
    brokers: dict[str, BrokerSettings]
    """Brokers beside Regrow's own, by a name of yours; see below."""
    startup: StartupSettings
    shutdown: ShutdownSettings
    schedule: ScheduleSettings
    health: HealthSettings
    maintenance: dict[str, MaintenanceSettings]
    """Maintenance windows that come again, by a name of yours; see below."""
    temp_files: TempFilesSettings
    dead_letters: DeadLetterSettings
    breakers: dict[str, BreakerSettings]
    recovery: RecoverySettings
    degradation: DegradationSettings
    slo: SloSettings
    incidents: IncidentSettings
    alerts: AlertSettings
    reports: ReportSettings
    jobs: JobSettings
    history: HistorySettings
    web: WebSettings
    log: LogSettings

    _referred: frozenset[tuple[str, ...]] = PrivateAttr(default_factory=frozenset)

    @property
    def referred(self) -> frozenset[tuple[str, ...]]:
        """Places whose value came by ``${VARIABLE}`` or from a file of its own: nothing to be shown."""
        return self._referred

    def keep_referred(self, places: Iterable[tuple[str, ...]]) -> None:
        self._referred = frozenset(places)

    def broker_url(self, alias: str | None) -> str:
        """The URL of a broker of ``[brokers]``; None is Regrow's own. KeyError when it is not declared."""
        chosen = self.celery.broker_url if alias is None else self.brokers[alias].url
        return chosen.get_secret_value()

    def breaker(self, name: str) -> BreakerSettings:
        """The settings of one breaker: its own table, else ``[breakers.default]``."""
        return self.breakers.get(name, self.breakers["default"])


__all__ = [
    "AlertSettings",
    "BreakerSettings",
    "BrokerSettings",
    "CelerySettings",
    "CheckSettings",
    "DatabaseSettings",
    "DeadLetterQueue",
    "DeadLetterSettings",
    "DegradationSettings",
    "HealthSettings",
    "HistorySettings",
    "IncidentSettings",
    "LogSettings",
    "Percent",
    "Profile",
    "RedisSettings",
    "RedriveSettings",
    "ReportSettings",
    "RouteSettings",
    "Settings",
    "TempFileRoot",
    "TempFilesSettings",
    "WebSettings",
]

"""The shape of the settings: frozen, typed, with nothing unknown let through.

Defaults stand in ``regrow/defaults.toml``, where people can read them; here stand types and bounds.
Times are seconds, sizes are bytes, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from regrow import redis_url
from regrow.breakers.kinds import KINDS
from regrow.failures import FailureClass
from regrow.settings.checks import CheckSettings
from regrow.settings.checks.common import Percent, Seconds
from regrow.settings.degradation import DegradationSettings
from regrow.settings.maintenance import MaintenanceSettings
from regrow.settings.recovery import HandlerSettings
from regrow.settings.routes import BrokerSettings, DeadLetterQueue, RouteSettings
from regrow.settings.slo import SloSettings

Profile = Literal["production", "development", "testing"]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _divided_as_meant(url: SecretStr) -> SecretStr:
    """A URL whose parts are where they look to be; never says what it found, which may be a password."""
    try:
        parts = urlsplit(url.get_secret_value())
        several_hosts = "," in parts.netloc
        _ = None if several_hosts else parts.port
    except ValueError:
        msg = "the port is no number, or the password holds a / ? or #: write those as %2F %3F %23"
        raise ValueError(msg) from None
    return url


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedisSettings(Section):
    """``url``: one server, a master behind Sentinels or a cluster, as ``regrow.redis_url`` reads them."""

    url: SecretStr
    """One server, a master behind Sentinels or a cluster: see [addresses](#addresses-of-a-redis)."""
    password: SecretStr | None = None
    """Put into the URL; for a secret file."""
    socket_timeout: Seconds
    """Longest wait for one answer."""
    connect_timeout: Seconds
    """Longest wait for a connection."""
    max_connections: Positive
    """Connections of one process, at most."""
    max_retries: Count
    """Attempts where waiting is right (start-up, batch jobs); hot paths never retry."""

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: SecretStr) -> SecretStr:
        redis_url.read(value.get_secret_value())
        return _divided_as_meant(value)


class DatabaseSettings(Section):
    """``url``: any SQLAlchemy URL of MySQL/MariaDB (mysql+pymysql://) or SQLite (sqlite:///)."""

    url: SecretStr
    """A SQLAlchemy URL of MySQL or MariaDB (mysql+pymysql://) or SQLite (sqlite:///)."""
    password: SecretStr | None = None
    """Put into the URL; for a secret file."""
    pool_size: Positive
    """Connections of one process, at most."""
    pool_timeout: Seconds
    """Longest wait for one of them."""
    connect_timeout: Seconds
    """Longest wait for a new connection."""
    statement_timeout: Seconds
    """Longest wait for an answer."""

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: SecretStr) -> SecretStr:
        scheme = value.get_secret_value().split("://", 1)[0].split("+", 1)[0]
        if scheme not in {"mysql", "mariadb", "sqlite"}:
            msg = "the URL must begin with mysql+pymysql://, mariadb+pymysql:// or sqlite:///"
            raise ValueError(msg)
        return _divided_as_meant(value)


class CelerySettings(Section):
    broker_url: SecretStr
    """Redis, Sentinel or RabbitMQ; without it, the Redis of `redis.url`, which a cluster cannot be."""
    result_backend: SecretStr
    """Where results are kept; without it, the Redis of `redis.url`; where that is a cluster, the broker's."""
    visibility_timeout: Seconds
    """Redis broker: a message of a dead worker comes back after this."""
    concurrency: Positive
    """Processes that run tasks, per worker."""
    task_time_limit: Seconds
    """A task is killed after this."""
    task_soft_time_limit: Seconds
    """A task is asked to stop after this; below `task_time_limit`."""
    result_expires: Seconds
    """Results are forgotten after this."""
    watchdog_timeout: Seconds
    """A worker whose own loop has not turned for so long ends itself, to be restarted."""
    max_tasks_per_child: Positive
    """A child is replaced after so many tasks."""
    max_memory_per_child: Positive
    """KiB; a child above it is replaced after its task."""

    @field_validator("broker_url", "result_backend")
    @classmethod
    def _no_cluster(cls, value: SecretStr) -> SecretStr:
        if redis_url.kind_of(value.get_secret_value()) == "cluster":
            msg = "Celery cannot use a Redis Cluster, which serves breakers and live state alone"
            raise ValueError(msg)
        return value


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
    probe_open_services: Seconds
    """Services behind open breakers tested; `recovery.probe_interval` says how often each one."""
    watch_trends: Seconds
    """Latency and failure rates looked at for early warnings."""
    fold_request_counts: Seconds
    """What the apps told of their requests added up, minute by minute."""
    generate_reliability_report: Seconds
    """The report of the last full hour."""
    cleanup_old_dlq_messages: Seconds
    """Letters settled long ago purged."""
    fold_dead_letter_ledger: Seconds
    """The ledger's deltas added up, and the books compared with the letters."""
    prune_history: Seconds
    """Reports, and history of jobs, checks, breakers, levels, recovery and acts by hand, deleted in time."""


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


class TempFileRoot(Section):
    """One folder that may be cleaned. Nothing outside it is ever touched."""

    path: Path
    """The folder."""
    max_age: Seconds
    """Files not changed for so long are removed."""
    max_bytes: Positive | None = None
    """When the folder holds more than this, the oldest files go until it fits."""
    max_files: Positive | None = None
    """The same for the number of files."""
    min_free: Positive | None = None
    """When its file system has fewer bytes left than this, the oldest files go until it has."""
    ages: dict[str, Seconds] = Field(default_factory=dict)
    """Another `max_age` for names like these; the first that matches."""
    patterns: tuple[str, ...] = ("*",)
    """Names that may be removed."""
    keep: tuple[str, ...] = ()
    """Names that are kept whatever their age."""


class TempFilesSettings(Section):
    roots: tuple[TempFileRoot, ...]
    """Folders that may be cleaned, each a [[temp_files.roots]] table; see below."""
    dry_run: bool
    """Count what would go and remove nothing."""

    @field_validator("roots")
    @classmethod
    def _sane(cls, roots: tuple[TempFileRoot, ...]) -> tuple[TempFileRoot, ...]:
        for root in roots:
            if root.path.resolve() == Path(root.path.resolve().anchor):
                msg = f"{root.path} is the root of the file system"
                raise ValueError(msg)
        return roots


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
    retention_days: Positive
    """How long reports are kept."""


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
    """How long the figures of requests are kept by minute."""
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

"""The shape of the settings: frozen, typed, with nothing unknown let through.

Defaults stand in ``regrow/defaults.toml``, where people can read them; here stand types and bounds.
Times are seconds, sizes are bytes, unless a name says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from regrow.settings.checks import CheckSettings, Percent, Seconds

Profile = Literal["production", "development", "testing"]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


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
    """``url``: redis://, rediss:// (TLS), unix://, or sentinel://[:pw@]host:port,host:port/service/db."""

    url: SecretStr
    password: SecretStr | None = None
    socket_timeout: Seconds
    connect_timeout: Seconds
    max_connections: Positive
    max_retries: Count
    """Attempts where waiting is right (start-up, batch jobs); hot paths never retry."""

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().split("://", 1)[0] not in {"redis", "rediss", "unix", "sentinel"}:
            msg = "the URL must begin with redis://, rediss://, unix:// or sentinel://"
            raise ValueError(msg)
        return _divided_as_meant(value)


class DatabaseSettings(Section):
    """``url``: any SQLAlchemy URL of MySQL/MariaDB (mysql+pymysql://) or SQLite (sqlite:///)."""

    url: SecretStr
    password: SecretStr | None = None
    pool_size: Positive
    pool_timeout: Seconds
    connect_timeout: Seconds
    statement_timeout: Seconds

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
    result_backend: SecretStr
    visibility_timeout: Seconds
    concurrency: Positive
    task_time_limit: Seconds
    task_soft_time_limit: Seconds
    result_expires: Seconds
    watchdog_timeout: Seconds
    """A worker whose own loop has not turned for so long ends itself, to be restarted."""
    max_tasks_per_child: Positive
    max_memory_per_child: Positive
    """KiB; a child above it is replaced after its task."""


class StartupSettings(Section):
    timeout: Seconds
    interval: Seconds


class ShutdownSettings(Section):
    timeout: Seconds
    """The soft shutdown; the container's grace period must be at least 15 s longer."""


class ScheduleSettings(Section):
    """Seconds between two runs of each scheduled job."""

    health_check_monitoring: Seconds
    due_checks: Seconds
    monitor_circuit_breakers: Seconds
    process_dead_letter_queue_batch: Seconds
    cleanup_temp_files: Seconds
    generate_reliability_report: Seconds
    cleanup_old_dlq_messages: Seconds
    prune_history: Seconds


class HealthSettings(Section):
    interval: Seconds
    history_size: Positive
    concurrency: Positive
    retention_days: Positive
    checks: dict[str, CheckSettings]


class TempFileRoot(Section):
    """One folder that may be cleaned. Nothing outside it is ever touched."""

    path: Path
    max_age: Seconds
    max_bytes: Positive | None = None
    """When the folder holds more than this, the oldest files go until it fits."""
    patterns: tuple[str, ...] = ("*",)
    keep: tuple[str, ...] = ()


class TempFilesSettings(Section):
    roots: tuple[TempFileRoot, ...]
    dry_run: bool

    @field_validator("roots")
    @classmethod
    def _sane(cls, roots: tuple[TempFileRoot, ...]) -> tuple[TempFileRoot, ...]:
        for root in roots:
            if root.path.resolve() == Path(root.path.resolve().anchor):
                msg = f"{root.path} is the root of the file system"
                raise ValueError(msg)
        return roots


class RouteSettings(Section):
    """The way home of one message type: the Celery task that takes the message as its only argument."""

    task: str
    queue: str = "celery"


class DeadLetterSettings(Section):
    max_retries: Count
    base_delay: Seconds
    max_delay: Seconds
    lease: Seconds
    outcome_deadline: Seconds
    """How long a redriven letter may go without an outcome before it is due again."""
    confirm: Literal["outcome", "publish"]
    """What settles a letter: its task's success, or the broker's word that it has the message."""
    max_body_bytes: Positive
    batch_size: Positive
    drain_budget: Seconds
    """One run of the redrive job goes on with the next batch for at most so long."""
    max_generations: Positive
    max_age_days: Positive
    routes: dict[str, RouteSettings]


class BreakerSettings(Section):
    failure_threshold: Positive
    recovery_timeout: Seconds
    success_threshold: Positive
    timeout: Seconds | None
    window_size: Positive
    minimum_requests: Positive
    failure_rate: Share
    half_open_max_calls: Positive


class RecoverySettings(Section):
    interval: Seconds
    max_attempts: Positive
    backoff: Annotated[float, Field(ge=1)]


class ReportSettings(Section):
    uptime_target: Annotated[float, Field(gt=0, lt=1)]
    retention_days: Positive


class WebSettings(Section):
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    api_key: SecretStr | None = None
    allowed_hosts: tuple[str, ...]
    """Host names the page answers to. Empty: loopback names when bound to loopback, else any."""
    max_content_length: Positive


class JobSettings(Section):
    retention_days: Positive


class LogSettings(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    format: Literal["auto", "json", "pretty"]
    """auto: pretty on a terminal and outside production, JSON else."""


class Settings(Section):
    """Everything one can set. Made by :func:`regrow.settings.load_settings`."""

    profile: Profile
    home: Path
    redis: RedisSettings
    database: DatabaseSettings
    celery: CelerySettings
    startup: StartupSettings
    shutdown: ShutdownSettings
    schedule: ScheduleSettings
    health: HealthSettings
    temp_files: TempFilesSettings
    dead_letters: DeadLetterSettings
    breakers: dict[str, BreakerSettings]
    recovery: RecoverySettings
    reports: ReportSettings
    jobs: JobSettings
    web: WebSettings
    log: LogSettings

    def breaker(self, name: str) -> BreakerSettings:
        """The settings of one breaker: its own table, else ``[breakers.default]``."""
        return self.breakers.get(name, self.breakers["default"])


__all__ = [
    "BreakerSettings",
    "CelerySettings",
    "CheckSettings",
    "DatabaseSettings",
    "DeadLetterSettings",
    "HealthSettings",
    "LogSettings",
    "Percent",
    "Profile",
    "RedisSettings",
    "ReportSettings",
    "RouteSettings",
    "Settings",
    "TempFileRoot",
    "TempFilesSettings",
    "WebSettings",
]

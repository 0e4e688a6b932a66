"""What a health check may declare in ``[health.checks.NAME]``: one model a kind, told apart by ``kind``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, model_validator

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100)]


class _Check(BaseModel):
    """What every check has. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """Whether it runs."""
    interval: Seconds | None = None
    """How often it runs; None takes ``health.interval``. At least 10 s outside the testing profile."""
    timeout: Seconds = 5.0
    """Longest wait for its answer."""
    required: bool = False
    """A required check that is not healthy or degraded makes the whole system unhealthy."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Words of your own, shown beside it."""


class _Limits(_Check):
    """Percent of a resource: from ``warning`` on degraded, from ``critical`` on unhealthy."""

    warning: Percent
    """Percent from which it is degraded."""
    critical: Percent
    """Percent from which it is unhealthy."""

    @model_validator(mode="after")
    def _ordered(self) -> _Limits:
        if self.warning > self.critical:
            msg = f"warning ({self.warning:g}) must not be above critical ({self.critical:g})"
            raise ValueError(msg)
        return self


class RedisCheck(_Check):
    kind: Literal["redis"]


class DatabaseCheck(_Check):
    kind: Literal["database"]


_QUEUES = ("regrow.control", "regrow.capture", "regrow.redrive")


class QueueCheck(_Check):
    """Depth of the broker's queues (waiting plus unacknowledged), in messages over all ``queues``."""

    kind: Literal["queue"]
    queues: tuple[str, ...] = _QUEUES
    """The queues that are added up."""
    warning: Annotated[int, Field(ge=0)] = 1_000
    """Messages from which it is degraded."""
    critical: Annotated[int, Field(ge=0)] = 10_000
    """Messages from which it is unhealthy."""


class CeleryWorkerCheck(_Check):
    """Fresh heartbeats of Regrow's own workers; older than ``max_age`` seconds means dead."""

    kind: Literal["celery_worker"]
    max_age: Seconds = 30.0
    """A heartbeat older than this is of a dead worker."""
    queues: tuple[str, ...] = _QUEUES
    """Each of these needs a living worker that takes from it."""


class CeleryBeatCheck(_Check):
    """The age of beat's last tick; older than ``max_age`` seconds means dead."""

    kind: Literal["celery_beat"]
    max_age: Seconds = 60.0
    """A tick older than this is of a dead beat."""


class DiskCheck(_Limits):
    kind: Literal["disk"]
    path: str = "."
    """Any place on the file system to look at."""
    warning: Percent = 80
    critical: Percent = 90


class MemoryCheck(_Limits):
    kind: Literal["memory"]
    warning: Percent = 80
    critical: Percent = 90


class CpuCheck(_Limits):
    kind: Literal["cpu"]
    warning: Percent = 70
    critical: Percent = 90


class TempFilesCheck(_Check):
    """Bytes in all files under ``temp_files.roots``."""

    kind: Literal["temp_files"]
    warning_bytes: Annotated[int, Field(ge=0)] = 500_000_000
    """From this size on it is degraded."""


class HttpCheck(_Check):
    kind: Literal["http"]
    url: HttpUrl
    """What is asked for."""
    method: Literal["GET", "HEAD"] = "GET"
    """How it is asked for."""
    expect_status: tuple[int, ...] = (200, 201, 202, 203, 204)
    """Answers that are well."""
    expect_body: str | None = None
    """Text that the body must contain."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent along; secrets by ${VARIABLE} or NAME_file."""
    slow: Seconds | None = None
    """An answer slower than this is degraded."""


class TcpCheck(_Check):
    kind: Literal["tcp"]
    host: str
    """Name or address."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """The port that must accept a connection."""


CheckSettings = Annotated[
    RedisCheck
    | DatabaseCheck
    | QueueCheck
    | CeleryWorkerCheck
    | CeleryBeatCheck
    | DiskCheck
    | MemoryCheck
    | CpuCheck
    | TempFilesCheck
    | HttpCheck
    | TcpCheck,
    Field(discriminator="kind"),
]

CHECK_KINDS = (
    "redis",
    "database",
    "queue",
    "celery_worker",
    "celery_beat",
    "disk",
    "memory",
    "cpu",
    "temp_files",
    "http",
    "tcp",
)

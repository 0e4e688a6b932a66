"""What a health check may declare in ``[health.checks.NAME]``: one model a kind, told apart by ``kind``."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, HttpUrl, SecretStr

from regrow.settings.checks.common import Check, Percent, PercentCheck, Seconds


class RedisCheck(Check):
    kind: Literal["redis"]


class DatabaseCheck(Check):
    kind: Literal["database"]


_QUEUES = ("regrow.control", "regrow.capture", "regrow.redrive")


class QueueCheck(Check):
    """Depth of the broker's queues (waiting plus unacknowledged), in messages over all ``queues``."""

    kind: Literal["queue"]
    queues: tuple[str, ...] = _QUEUES
    """The queues that are added up."""
    warning: Annotated[int, Field(ge=0)] = 1_000
    """Messages from which it is degraded."""
    critical: Annotated[int, Field(ge=0)] = 10_000
    """Messages from which it is unhealthy."""


class CeleryWorkerCheck(Check):
    """Fresh heartbeats of Regrow's own workers; older than ``max_age`` seconds means dead."""

    kind: Literal["celery_worker"]
    max_age: Seconds = 30.0
    """A heartbeat older than this is of a dead worker."""
    queues: tuple[str, ...] = _QUEUES
    """Each of these needs a living worker that takes from it."""


class CeleryBeatCheck(Check):
    """The age of beat's last tick; older than ``max_age`` seconds means dead."""

    kind: Literal["celery_beat"]
    max_age: Seconds = 60.0
    """A tick older than this is of a dead beat."""


class DiskCheck(PercentCheck):
    kind: Literal["disk"]
    path: str = "."
    """Any place on the file system to look at."""
    warning: Percent = 80
    critical: Percent = 90


class MemoryCheck(PercentCheck):
    kind: Literal["memory"]
    warning: Percent = 80
    critical: Percent = 90


class CpuCheck(PercentCheck):
    kind: Literal["cpu"]
    warning: Percent = 70
    critical: Percent = 90


class TempFilesCheck(Check):
    """Bytes in all files under ``temp_files.roots``."""

    kind: Literal["temp_files"]
    warning_bytes: Annotated[int, Field(ge=0)] = 500_000_000
    """From this size on it is degraded."""


class HttpCheck(Check):
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


class TcpCheck(Check):
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

CHECK_KINDS: tuple[str, ...] = tuple(
    kind
    for model in get_args(get_args(CheckSettings)[0])
    for kind in get_args(model.model_fields["kind"].annotation)
)
"""Every word that ``kind`` may be."""

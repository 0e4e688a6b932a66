"""What a health check may declare in ``[health.checks.NAME]``: one model a kind, told apart by ``kind``."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from regrow.settings.checks.celery import CanaryCheck, CeleryBeatCheck, CeleryWorkerCheck
from regrow.settings.checks.code import CommandCheck, PythonCheck
from regrow.settings.checks.machine import (
    CpuCheck,
    DiskCheck,
    LoadCheck,
    MemoryCheck,
    ProcessCheck,
    TempFilesCheck,
)
from regrow.settings.checks.network import DnsCheck, HttpCheck, TcpCheck
from regrow.settings.checks.stores import DatabaseCheck, QueueCheck, RedisCheck

CheckSettings = Annotated[
    RedisCheck
    | DatabaseCheck
    | QueueCheck
    | CeleryWorkerCheck
    | CeleryBeatCheck
    | CanaryCheck
    | DiskCheck
    | MemoryCheck
    | CpuCheck
    | LoadCheck
    | TempFilesCheck
    | ProcessCheck
    | HttpCheck
    | TcpCheck
    | DnsCheck
    | CommandCheck
    | PythonCheck,
    Field(discriminator="kind"),
]

CHECK_KINDS: tuple[str, ...] = tuple(
    kind
    for model in get_args(get_args(CheckSettings)[0])
    for kind in get_args(model.model_fields["kind"].annotation)
)
"""Every word that ``kind`` may be."""

__all__ = [
    "CHECK_KINDS",
    "CanaryCheck",
    "CeleryBeatCheck",
    "CeleryWorkerCheck",
    "CheckSettings",
    "CommandCheck",
    "CpuCheck",
    "DatabaseCheck",
    "DiskCheck",
    "DnsCheck",
    "HttpCheck",
    "LoadCheck",
    "MemoryCheck",
    "ProcessCheck",
    "PythonCheck",
    "QueueCheck",
    "RedisCheck",
    "TcpCheck",
    "TempFilesCheck",
]

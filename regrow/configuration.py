"""What an application told the library: :func:`configure`, else the environment.

The worker's settings are another matter (``regrow.settings``): this module needs nothing installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Configuration:
    """Where the library finds its servers, and what this host is called; None: not told, empty: none."""

    redis_url: str | None = None
    broker_url: str | None = None
    spool: str | None = None
    reporter: str | None = None
    spool_key: str | None = None


_told = Configuration()


def configure(
    *,
    redis_url: str | None = None,
    broker_url: str | None = None,
    spool: str | None = None,
    reporter: str | None = None,
    spool_key: str | None = None,
) -> None:
    """Tell the library, once a process, where its servers are.

    ``redis_url``: the Redis that circuit breakers share (else ``REGROW_REDIS_URL``). ``broker_url``: the
    Celery broker that :func:`regrow.dead_letters.capture` sends through (else ``CELERY_BROKER_URL``).
    ``spool``: the folder in which it keeps them first (else ``REGROW_SPOOL``). ``spool_key``: the public
    key that its entries are sealed to (else ``REGROW_SPOOL_KEY``); without it they lie there in plain.
    ``reporter``: what this host or container is called (else ``REGROW_REPORTER``, else its host name):
    breakers open for one reporter alone when that one alone fails. What is left out stays as it was.
    Nothing is connected yet; SettingsError when the Redis URL cannot be one.
    """
    global _told  # noqa: PLW0603 - what the process was told is process-wide
    if redis_url is not None:
        from regrow.redis import connect

        connect(redis_url)
        _told = replace(_told, redis_url=redis_url)
    if broker_url is not None:
        _told = replace(_told, broker_url=broker_url)
    if spool is not None:
        _told = replace(_told, spool=spool)
    if reporter is not None:
        _told = replace(_told, reporter=reporter)
    if spool_key is not None:
        _told = replace(_told, spool_key=spool_key)
    process = sys.modules.get("regrow.breakers.process")
    if (redis_url is not None or reporter is not None) and process is not None:
        process.reconnect()
    watching = sys.modules.get("regrow.degradation.process")
    if redis_url is not None and watching is not None:
        watching.reconnect()


@contextmanager
def without_redis() -> Iterator[None]:
    """No Redis for breakers and budgets that are made or begun anew meanwhile, whatever was told."""
    global _told  # noqa: PLW0603 - what the process was told is process-wide
    before = _told
    _told = replace(before, redis_url="")
    try:
        yield
    finally:
        _told = before


def configured() -> Configuration:
    """What was told, filled up from the environment."""
    return Configuration(
        redis_url=(os.environ.get("REGROW_REDIS_URL") if _told.redis_url is None else _told.redis_url)
        or None,
        broker_url=_told.broker_url or os.environ.get("CELERY_BROKER_URL") or None,
        spool=_told.spool or os.environ.get("REGROW_SPOOL") or None,
        reporter=_told.reporter or os.environ.get("REGROW_REPORTER") or None,
        spool_key=_told.spool_key or os.environ.get("REGROW_SPOOL_KEY") or None,
    )

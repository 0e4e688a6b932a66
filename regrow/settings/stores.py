"""Where Regrow's stores and broker are, and how they are asked."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator

from regrow import redis_url
from regrow.settings.checks.common import Seconds
from regrow.settings.shapes import Count, Positive, Section


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

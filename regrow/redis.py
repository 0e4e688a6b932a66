"""Redis connections: one factory, bounded waits, and a retry policy chosen on purpose.

redis-py's defaults can block a caller for a minute on a frozen server. Here every client has timeouts;
``waiting=True`` retries with exponential backoff where waiting is right (start-up, batch jobs), anything
else fails at once, so that its caller can apply its own policy for an absent Redis.
"""

from __future__ import annotations

from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from regrow.errors import SettingsError

RETRIED = (RedisConnectionError, RedisTimeoutError)


def connect(
    url: str,
    *,
    socket_timeout: float = 5.0,
    connect_timeout: float = 3.0,
    max_connections: int = 32,
    waiting: bool = False,
    max_retries: int = 5,
) -> redis.Redis:
    """A client with its own pool; nothing is sent yet. Strings are decoded as UTF-8.

    ``url``: ``redis://``, ``rediss://`` (TLS), ``unix://`` or
    ``sentinel://[:password@]host:port[,host:port...]/SERVICE[/DB]``. Times in seconds.
    """
    retry = Retry(ExponentialBackoff(cap=8.0, base=0.25), max_retries) if waiting else Retry(NoBackoff(), 0)
    options = {
        "decode_responses": True,
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": connect_timeout,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "max_connections": max_connections,
        "retry": retry,
        "retry_on_error": list(RETRIED) if waiting else [],
    }
    if url.startswith("sentinel://"):
        return _from_sentinel(url, options)
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise SettingsError(f"redis.url: {error}. Write it as redis://[:password@]host:port/db.") from None


def _from_sentinel(url: str, options: dict[str, object]) -> redis.Redis:
    parts = urlsplit(url)
    hosts = parts.netloc.rsplit("@", 1)[-1]
    service, _, db = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise SettingsError(
            "redis.url: a Sentinel URL names hosts and service: sentinel://[:password@]host:26379,host2:26379/mymaster/0"
        )
    try:
        addresses = [
            (host, int(port or 26379))
            for host, _, port in (h.rpartition(":") if ":" in h else (h, "", "") for h in hosts.split(","))
        ]
    except ValueError:
        raise SettingsError("redis.url: a port of the Sentinel URL is not a number") from None
    query = parse_qs(parts.query)
    sentinel_options: dict[str, object] = {
        "socket_timeout": options["socket_connect_timeout"],
        "socket_connect_timeout": options["socket_connect_timeout"],
    }
    if "sentinel_password" in query:
        sentinel_options["password"] = query["sentinel_password"][0]
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        addresses, sentinel_kwargs=sentinel_options, **options
    )
    password = unquote(parts.password) if parts.password else None
    tls = query.get("ssl", ["0"])[0] in {"1", "true"}
    master = sentinel.master_for(  # type: ignore[no-untyped-call]
        service, db=int(db or 0), password=password, ssl=tls
    )
    return cast("redis.Redis", master)

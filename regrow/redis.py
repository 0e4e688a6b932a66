"""Redis connections: one factory, bounded waits, and a retry policy chosen on purpose.

redis-py's defaults can block a caller for a minute on a frozen server. Here every client has timeouts;
``waiting=True`` retries with exponential backoff where waiting is right (start-up, batch jobs), anything
else fails at once, so that its caller can apply its own policy for an absent Redis.
"""

from __future__ import annotations

from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from regrow.errors import SettingsError
from regrow.redis_cluster import ClusterClient
from regrow.redis_url import FORMS, Address, parse

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

    ``url``: a server, a master behind Sentinels or a cluster, as ``regrow.redis_url`` reads them. A cluster's
    client has the same commands (its type is :class:`ClusterClient`), ``max_connections`` for each node.
    Times in seconds. SettingsError when the URL cannot be one.
    """
    address = parse(url)
    pauses = ExponentialBackoff(cap=8.0, base=0.25)
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": connect_timeout,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "max_connections": max_connections,
    }
    if address.kind == "cluster":
        patience = Retry(pauses, max_retries, (*RETRIED, ClusterDownError)) if waiting else None
        return _of_cluster(address, patience, options)
    options["retry"] = Retry(pauses, max_retries) if waiting else Retry(NoBackoff(), 0)
    options["retry_on_error"] = list(RETRIED) if waiting else []
    if address.kind == "sentinel":
        return _from_sentinel(address, options)
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise SettingsError(f"redis.url: {error}. Write it as {FORMS['server']}.") from None


def _of_cluster(address: Address, patience: Retry | None, options: dict[str, Any]) -> redis.Redis:
    client = ClusterClient(
        address.nodes,
        patience=patience,
        username=address.username,
        password=address.password,
        ssl=address.encrypted,
        **dict(address.tls),
        **options,
    )
    return cast("redis.Redis", client)


def _from_sentinel(address: Address, options: dict[str, Any]) -> redis.Redis:
    login = zip(("username", "password"), address.sentinel_login, strict=True)
    sentinel_options: dict[str, Any] = {
        "socket_timeout": options["socket_connect_timeout"],
        "socket_connect_timeout": options["socket_connect_timeout"],
        "retry": Retry(NoBackoff(), 0),  # another Sentinel is asked instead
        **{name: told for name, told in login if told is not None},
    }
    if address.sentinels_encrypted:
        sentinel_options |= {"ssl": True, **dict(address.tls)}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        address.nodes, sentinel_kwargs=sentinel_options, **options
    )
    tls = {"ssl": True, **dict(address.tls)} if address.encrypted else {}
    master = sentinel.master_for(  # type: ignore[no-untyped-call]
        address.service, db=address.db, username=address.username, password=address.password, **tls
    )
    return cast("redis.Redis", master)

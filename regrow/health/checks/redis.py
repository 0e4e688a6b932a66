"""Redis: a new connection, one small write read back, and what the server says of its memory.

A write, because a server that answers PING may be a read-only replica, out of memory, or refusing writes
since its disk failed; each of these is an outage for whoever needs Redis. A cluster also says how many of its
slots are served: without some of them it works for the others.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

import redis

from regrow.health.checks import conditions
from regrow.health.checks.conditions import Remark, concluded
from regrow.health.checks.redis_client import asking
from regrow.health.rules import Finding, finding, judge
from regrow.redis_cluster import Client, ClusterClient
from regrow.settings import Settings
from regrow.settings.checks import RedisCheck

KEY = "regrow:{health}:probe"
SLOTS = 16_384
_FULL = 90.0
"""Percent of ``maxmemory``; beyond 100 a server that keeps its promises (noeviction) refuses writes."""


def probe(check: RedisCheck, settings: Settings) -> Finding:
    began = time.monotonic()
    try:
        with asking((check.url or settings.redis.url).get_secret_value(), check.timeout) as client:
            token = uuid.uuid4().hex
            client.set(KEY, token, ex=60)
            if client.get(KEY) is None:
                return finding("unhealthy", "a key vanished right after it was written")
            took = time.monotonic() - began
            facts = _facts(client)
            unserved = _unserved(client)
    except redis.RedisError as error:
        return finding("unhealthy", f"{type(error).__name__}: {error}")
    except OSError as error:
        return finding("unhealthy", f"cannot be reached: {error}")
    return verdict(facts, unserved, conditions.slowness(check, took))


def verdict(facts: dict[str, Any], unserved: int = 0, remarks: Iterable[Remark] = ()) -> Finding:
    """What a server that takes writes says about itself. ``facts``: INFO, empty where that is forbidden.

    ``unserved``: slots of a cluster whose node does not answer the others. ``remarks``: what else was seen.
    """
    limit, used = int(facts.get("maxmemory") or 0), int(facts.get("used_memory") or 0)
    data = {
        "version": facts.get("valkey_version") or facts.get("redis_version"),
        "used_bytes": used,
        "max_bytes": limit or None,
        "eviction": facts.get("maxmemory_policy"),
        "clients": facts.get("connected_clients"),
    }
    made = list(remarks)
    said = "takes writes"
    if unserved:
        lost = f"nobody serves {unserved} of {SLOTS} slots, whose node is away"
        made.append(Remark("degraded", lost))
    if limit:
        percent = 100 * used / limit
        used_up = f"{percent:.0f}% of maxmemory used"
        if judge(percent, _FULL) == "healthy":
            said = f"{said}; {used_up}"
        else:
            made.append(Remark("degraded", used_up))
    return concluded(said, made, **data)


def _unserved(client: Client) -> int:
    if not isinstance(client, ClusterClient):
        return 0
    said: dict[str, Any] = client.answering().execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    return sum(int(said.get(f"cluster_slots_{state}", 0)) for state in ("fail", "pfail"))


def _facts(client: Client) -> dict[str, Any]:
    try:
        server = client.answering() if isinstance(client, ClusterClient) else client
        facts: dict[str, Any] = server.info()
    except redis.ResponseError:
        return {}  # an ACL without INFO: what matters was tried already
    return facts

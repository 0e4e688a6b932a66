"""Which hosts go on with older settings than their ``regrow.toml`` says, told to all in Redis.

``regrow:{settings}:standing`` is a hash, host to what is wrong there; a host tells it at its ticks, so that
what is older than three minutes is of a host that is gone, and dropped by the next one that tells.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, cast

from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.health.store import redis_errors

KEY = "regrow:{settings}:standing"
_FRESH = 180.0


def tell(engine: Engine) -> None:
    """Say how this host's file stands, or that all of it is in force. Never raises."""
    standing = engine.settings_standing
    host = socket.gethostname()
    told = {
        "at": engine.clock().timestamp(),
        "file": standing.file,
        "refused": standing.refused,
        "waiting_for_restart": list(standing.waiting),
    }
    try:
        with redis_errors():
            if standing.is_in_force:
                engine.redis.hdel(KEY, host)
                return
            kept = cast("dict[str, str]", engine.redis.hgetall(KEY))
            gone = [other for other, text in kept.items() if other != host and _fresh(engine, text) is None]
            with engine.redis.pipeline(transaction=True) as both:
                if gone:
                    both.hdel(KEY, *gone)
                both.hset(KEY, host, json.dumps(told))
                both.execute()
    except StoreUnavailableError:
        return


def read(engine: Engine) -> Mapping[str, Mapping[str, Any]]:
    """What is wrong, by host. StoreUnavailableError when Redis is away."""
    with redis_errors():
        kept = cast("dict[str, str]", engine.redis.hgetall(KEY))
    found = {host: _fresh(engine, text) for host, text in kept.items()}
    return {host: told for host, told in found.items() if told is not None}


def _fresh(engine: Engine, text: str) -> Mapping[str, Any] | None:
    """What a host told lately; None for what is too old, or not told by one of us."""
    try:
        told = json.loads(text)
        if engine.clock().timestamp() - float(told["at"]) > _FRESH:
            return None
        return {name: told.get(name) for name in ("file", "refused", "waiting_for_restart")}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None

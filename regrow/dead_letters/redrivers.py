"""Which redriving workers died: each run says in Redis that it is at work, and that it has left.

A run that is told to end (a deploy, a lost broker), or that fails, leaves too; what never left was killed, or
stands still. Without Redis nothing is known, and nobody is taken for dead.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from redis.exceptions import RedisError

_KEPT = 86_400
"""Seconds for which it is known how a run ended; leases run out sooner."""
_AT_WORK, _LEFT = "at work", "left"


def run_key(owner: str) -> str:
    return f"regrow:{{redriver}}:{owner}"


@contextmanager
def at_work(client: Any) -> Iterator[str]:
    """A run of this process; yields the name that its leases bear."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    _say(client, owner, _AT_WORK)
    try:
        yield owner
    finally:
        _say(client, owner, _LEFT)


def _say(client: Any, owner: str, what: str) -> None:
    with suppress(RedisError, OSError):  # a favour: it must hold up no letter
        client.set(run_key(owner), what, ex=_KEPT)


def died(client: Any, owners: Iterable[str]) -> frozenset[str]:
    """Those of the owners that began and never left."""
    asked = sorted(set(owners))
    try:
        found = client.mget([run_key(owner) for owner in asked]) if asked else []
    except (RedisError, OSError):
        return frozenset()
    told = zip(asked, found, strict=True)
    return frozenset(owner for owner, said in told if said in {_AT_WORK, _AT_WORK.encode()})

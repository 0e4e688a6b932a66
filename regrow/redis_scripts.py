"""Lua scripts as the library calls them: by their digest, and whole where a server does not know them.

redis-py would load a script that is not known, which asks every node of a cluster and fails for one that is
away; sent with the call it reaches the one node that matters, which keeps it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from regrow.redis_cluster import Client


class Script(NamedTuple):
    text: str
    digest: str


@cache
def script(package: str, name: str) -> Script:
    """The script in a file of a package of ours, read once."""
    text = files(package).joinpath(name).read_text("utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def call(client: Client, one: Script, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
    """The script's reply. All ``keys`` are of one slot."""
    told = [*keys, *(str(argument) for argument in arguments)]
    try:
        return client.evalsha(one.digest, len(keys), *told)
    except NoScriptError:
        return client.eval(one.text, len(keys), *told)

"""Calling the breakers' script: by its digest, many calls at once in one pipeline a node of a cluster.

redis-py's pipelines for clusters refuse EVALSHA, so each node gets one of its own; what it redirects (MOVED,
ASK), and what it does not know, goes once more through redis-py, which follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import AskError, ClusterDownError, NoScriptError, RedisError, TryAgainError

from regrow.redis_cluster import Client, ClusterClient
from regrow.redis_scripts import Script
from regrow.redis_scripts import call as call_script
from regrow.redis_scripts import script as script_in

BATCH = 100  # calls in one pipeline: a server is not held up for long, nor an answer waited for

# What is worth sending once more, through the client that knows how to follow a redirection.
_AGAIN = (NoScriptError, AskError, TryAgainError, ClusterDownError)


class Call(NamedTuple):
    """One call of the script. All keys are of one slot."""

    keys: tuple[str, ...]
    arguments: tuple[str | int, ...]


def script() -> Script:
    return script_in("regrow.breakers", "breaker.lua")


def call(client: Client, one: Call) -> Any:
    """The reply to one call, wherever its keys are."""
    return call_script(client, script(), one.keys, one.arguments)


def call_all(client: Client, calls: Sequence[Call]) -> list[Any]:
    """A reply or an error for each call, in order; one round trip a node for every :data:`BATCH` of them."""
    by_node: dict[str, list[int]] = {}
    for number, one in enumerate(calls):
        node = client.node_of(one.keys[0]) if isinstance(client, ClusterClient) else ""
        by_node.setdefault(node, []).append(number)
    replies: list[Any] = [None] * len(calls)
    for node, numbers in by_node.items():
        try:
            for first in range(0, len(numbers), BATCH):
                some = numbers[first : first + BATCH]
                for number, reply in zip(some, _at_node(client, node, [calls[n] for n in some]), strict=True):
                    replies[number] = reply
        except (RedisError, OSError) as error:
            if isinstance(client, ClusterClient):
                client.look_around(node)
            for number in numbers:
                replies[number] = replies[number] or error
    return replies


def _at_node(client: Client, node: str, calls: Sequence[Call]) -> list[Any]:
    """Calls to one node of a cluster, or to the one server there is; raises what ends the connection."""
    if isinstance(client, ClusterClient) and not node:  # nothing is known of it yet: redis-py finds the way
        return [_tried(client, one) for one in calls]
    server = client.at_node(node) if isinstance(client, ClusterClient) else client
    with server.pipeline(transaction=False) as batch:
        for keys, arguments in calls:
            batch.evalsha(script().digest, len(keys), *keys, *arguments)
        replies = batch.execute(raise_on_error=False)
    return [
        _tried(client, one) if isinstance(reply, _AGAIN) else reply
        for one, reply in zip(calls, replies, strict=True)
    ]


def _tried(client: Client, one: Call) -> Any:
    try:
        return call(client, one)
    except (RedisError, OSError) as error:
        return error

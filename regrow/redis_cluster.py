"""A client of a Redis Cluster that behaves as one of a single server does where it matters to its users.

redis-py's own asks for the cluster's topology when it is made, and some of its errors are no RedisError. This
one sends nothing before its first use, so that making it cannot fail, and raises what every caller expects.
"""

from __future__ import annotations

import functools
import os
import random
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry

T = TypeVar("T")


class ClusterClient(RedisCluster):
    """``nodes``: (host, port) of some members, enough to find the others. ``options`` are redis-py's.

    ``patience``: how a command is tried again, with the pauses that redis-py's own retries in a cluster lack.
    Pipelines are not: what they held is gone after the first try.
    """

    def __init__(
        self, nodes: tuple[tuple[str, int], ...], *, patience: Retry | None = None, **options: Any
    ) -> None:
        self._some_nodes = nodes
        self._pid = os.getpid()
        self._patience = patience
        self._options = options
        self._making = threading.RLock()
        self._being_made = False

    def __getattr__(self, name: str) -> Any:
        """What redis-py's constructor sets, which runs when the first of it is missed."""
        given = self.__dict__
        if name.startswith("__") or "_making" not in given:
            raise AttributeError(name)
        with given["_making"]:
            if name not in given and not given["_being_made"]:
                given["_being_made"] = True
                try:
                    _translated(self._connect)
                finally:
                    given["_being_made"] = False
        try:
            return given[name]
        except KeyError:
            raise AttributeError(name) from None

    def _connect(self) -> None:
        nodes = [ClusterNode(host, port) for host, port in self._some_nodes]  # type: ignore[no-untyped-call]
        # A slot that nobody serves is an error for its keys, not for the others.
        super().__init__(
            startup_nodes=nodes, require_full_coverage=False, retry=Retry(NoBackoff(), 0), **self._options
        )

    @property
    def connected(self) -> bool:
        """Whether the topology is known."""
        return "nodes_manager" in self.__dict__

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        execute: Callable[..., Any] = super().execute_command
        ask = functools.partial(_translated, lambda: execute(*args, **kwargs))
        return self._patience.call_with_retry(ask, lambda _error: None) if self._patience else ask()

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """All keys of one slot, as ours with a hash tag are; then a transaction is one too."""
        pipe: Any = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        execute = pipe.execute
        pipe.execute = lambda *args, **kwargs: _translated(lambda: execute(*args, **kwargs))
        return pipe

    def ping(self, **_: Any) -> bool:
        """Whether any node is there; redis-py would ask always the same one."""
        return bool(self.answering().ping())

    def answering(self) -> redis.Redis:
        """A client of some node that is there. redis.ConnectionError or TimeoutError when none is."""
        nodes = self.get_primaries()  # type: ignore[no-untyped-call]
        for left, node in reversed(list(enumerate(nodes))):
            try:
                found = self.at_node(node.name)
                found.ping()
            except (redis.ConnectionError, redis.TimeoutError):
                if not left:
                    raise
            else:
                return found
        raise redis.ConnectionError("no node of the cluster serves slots")

    def close(self) -> None:
        # In a forked child the sockets are the parent's, and so is a lock that one of its threads may hold.
        if self.connected and self._pid == os.getpid():
            super().close()

    def node_of(self, key: str) -> str:
        """``host:port`` of the node that serves ``key``; empty while the topology or the slot is unknown."""
        if not self.connected:
            return ""
        try:
            return str(self.get_node_from_key(key).name)  # type: ignore[no-untyped-call]
        except (RedisClusterException, AttributeError):
            return ""

    def at_node(self, name: str) -> redis.Redis:
        """A client of one node alone. redis.ConnectionError when it is no member any more."""
        node = self.get_node(node_name=name)  # type: ignore[no-untyped-call]
        if node is None:
            raise redis.ConnectionError(f"no node {name} in the cluster")
        return self.get_redis_connection(node)

    def at_any_node(self) -> redis.Redis:
        """A client of some node, not always the same."""
        nodes = self.get_primaries()  # type: ignore[no-untyped-call]
        return self.at_node(random.choice(nodes).name)  # noqa: S311 - no secret

    def look_around(self, failed: str) -> None:
        """Ask the others for the topology, after ``failed`` did not answer."""
        try:
            _translated(lambda: self.nodes_manager.initialize(last_failed_node_name=failed))
        except (redis.RedisError, OSError):
            return  # nobody answers: whoever asks next finds out by himself


Client = redis.Redis | ClusterClient
"""What has the commands of Redis."""


def _translated(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error

"""The level in Redis: one hash, the newest changes beside it, and a channel that says that it changed.

``regrow:{degradation}:state``, ``regrow:{degradation}:changes``, channel ``regrow:{degradation}:changed``.
Each method is one atomic step; errors of the driver become StoreUnavailableError, here and only here.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import RedisError

from regrow.degradation.levels import Level
from regrow.degradation.state import Change, State, as_json, from_json
from regrow.errors import StoreUnavailableError
from regrow.redis import connect
from regrow.redis_cluster import Client, ClusterClient
from regrow.redis_scripts import call, script
from regrow.subscription import Subscription

STATE = "regrow:{degradation}:state"
CHANGES = "regrow:{degradation}:changes"
CHANNEL = "regrow:{degradation}:changed"
KEPT_CHANGES = 200
TIMEOUT = 1.0  # seconds; nobody but a thread of ours waits for it


class LevelStore:
    """The level on a Redis or Valkey."""

    def __init__(self, client: redis.Redis | Callable[[], redis.Redis]) -> None:
        """``client``: one to use as it is, or a function that makes one, called again after a fork."""
        self._make: Callable[[], redis.Redis] = client if callable(client) else (lambda: client)
        self._made: Client | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_url(cls, url: str) -> LevelStore:
        """A store with two connections of its own, which gives up after a second and never tries twice."""
        connect(url)  # an unusable URL is told here, where it was given; nothing is sent
        return cls(lambda: connect(url, socket_timeout=TIMEOUT, connect_timeout=TIMEOUT, max_connections=8))

    def look(self) -> tuple[State | None, int]:
        """The state, None without one, and the time (ms)."""
        state, _revision, now = self.read()
        return state, now

    def read(self) -> tuple[State | None, str, int]:
        """The state, the revision to replace, the time (ms). What no version of ours wrote is no state."""
        _done, text, revision, now = self._call("", "", "", "", "")
        return _read(text), revision, now

    def replace(self, held: str, state: State, change: Change | None, *, tell: bool) -> bool:
        """Put ``state`` in the place of revision ``held``; False when another one is there by now.

        ``tell``: wake those who listen.
        """
        done, *_ = self._call(
            held,
            str(state.revision),
            json.dumps(as_json(state), separators=(",", ":")),
            json.dumps(dataclasses.asdict(change), separators=(",", ":")) if change else "",
            CHANNEL if tell else "",
        )
        return done

    def changes(self, after: int = 0) -> list[Change]:
        """The changes that Redis keeps and that are newer than revision ``after``, oldest first."""
        try:
            told: Any = self._client().lrange(CHANGES, 0, -1)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        found = [_change(text) for text in told]
        return [change for change in found if change is not None and change.revision > after]

    def listen(self) -> Subscription:
        """A connection that hears of changes."""
        try:
            client = self._client()
            server = client.at_any_node() if isinstance(client, ClusterClient) else client
            heard = Subscription(server.pubsub())  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        heard.follow({CHANNEL})
        return heard

    def after_fork(self) -> None:
        """In a child: make a client of its own, whatever state the parent's threads left this one in."""
        self._lock = threading.Lock()
        self._made = None

    def _call(self, held: str, *rest: str) -> tuple[bool, str, str, int]:
        try:
            done, text, revision, now = call(
                self._client(),
                script("regrow.degradation", "level.lua"),
                [STATE, CHANGES],
                [held, *rest, KEPT_CHANGES],
            )
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return bool(done), str(text), str(revision), int(now)

    def _client(self) -> Client:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def _read(text: str) -> State | None:
    """The state as it was written; None for none, and for what no version of ours wrote."""
    try:
        return from_json(json.loads(text)) if text else None
    except (ValueError, TypeError, KeyError):
        return None


def _change(text: str) -> Change | None:
    try:
        told = json.loads(text)
        levels = {name: told[name] and Level(told[name]) for name in ("old", "new", "automatic")}
        return Change(**{**told, **levels})
    except (ValueError, TypeError, KeyError):
        return None


def _unavailable(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"Redis did not answer: {type(error).__name__}: {error}")

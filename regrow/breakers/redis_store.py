"""Breakers in Redis, shared by a fleet: every step is one Lua script, timed by Redis' own clock.

Keys of one breaker share the hash tag ``{breaker:NAME}`` and so one slot of a cluster:
``regrow:{breaker:NAME}:state``, ``:transitions`` and ``:process:<id>``. The list of names,
``regrow:breakers``, is written outside the script, because it lies in another slot; while its node is away
nothing else suffers, and it is written later.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis
from redis.exceptions import RedisError

from regrow.breakers.declared import Declared, read, written
from regrow.breakers.redis_calls import Call, call, call_all, script
from regrow.breakers.redis_listening import RedisListening
from regrow.breakers.rules import (
    AskProbe,
    Breaker,
    BreakerConfig,
    Event,
    Host,
    Lease,
    Look,
    Order,
    Override,
    OverrideKind,
    RenewProbe,
    Report,
    Restore,
    SettleProbe,
    Slot,
    State,
    Transition,
)
from regrow.breakers.store import Outcome, Step
from regrow.errors import StoreUnavailableError
from regrow.redis import connect
from regrow.redis_cluster import Client, ClusterClient

NAMES_KEY = "regrow:breakers"
UNUSED = 24 * 3600  # seconds that settings are kept for a breaker that nobody uses
ANNOUNCE_EVERY = 60.0  # seconds; a name that a flushed Redis forgot is back after this
ANNOUNCE_AGAIN = 5.0  # seconds until the list of names is tried again
TIMEOUT = 0.25  # seconds; whoever waits for Redis here has a local answer to fall back on


def state_key(name: str) -> str:
    return f"regrow:{{breaker:{name}}}:state"


def transitions_key(name: str) -> str:
    return f"regrow:{{breaker:{name}}}:transitions"


def process_key(name: str, process: str) -> str:
    return f"regrow:{{breaker:{name}}}:process:{process}"


class RedisStore:
    """A store on a Redis or Valkey. Its errors become StoreUnavailableError, here and only here."""

    remote = True

    def __init__(self, client: redis.Redis | Callable[[], redis.Redis]) -> None:
        """``client``: one to use as it is, or a function that makes one, called again after a fork."""
        self._make: Callable[[], redis.Redis] = client if callable(client) else (lambda: client)
        self._lock = threading.Lock()
        self._made: Client | None = None
        self._begin_announcing()
        script()  # read while nothing hurries, not with the first failure in hand

    @classmethod
    def from_url(cls, url: str) -> RedisStore:
        """A store with its own few connections, which gives up after 250 ms and never tries twice."""
        connect(url)  # an unusable URL is told here, where it was given; nothing is sent
        return cls(
            lambda: connect(
                url, socket_timeout=TIMEOUT, connect_timeout=TIMEOUT, max_connections=64, waiting=False
            )
        )

    def apply(self, name: str, config: BreakerConfig | None, event: Event, host: str = "") -> Outcome:
        try:
            client = self._client()
            reply = call(client, _called(name, config, event, host))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        if not isinstance(event, Look):
            self._announce(client, [name])
        return _outcome(reply)

    def apply_all(self, steps: Sequence[Step]) -> list[Outcome | StoreUnavailableError]:
        try:
            client = self._client()
        except (RedisError, OSError) as error:
            return [_unavailable(error)] * len(steps)
        replies = call_all(client, [_called(*step) for step in steps])
        taken = [step for step, reply in zip(steps, replies, strict=True) if not isinstance(reply, Exception)]
        self._announce(client, [name for name, _, event, *_ in taken if not isinstance(event, Look)])
        return [_unavailable(reply) if isinstance(reply, Exception) else _outcome(reply) for reply in replies]

    def names(self) -> list[str]:
        try:
            return sorted(_text(name) for name in self._client().smembers(NAMES_KEY))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    def transitions(self, name: str, after: int = 0) -> list[Transition]:
        try:
            entries: Any = self._client().xrange(transitions_key(name), min=f"{after + 1}-0")
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        return [
            _transition({_text(key): _text(value) for key, value in told.items()}) for _id, told in entries
        ]

    def declare(self, name: str, settings: Declared) -> None:
        """Keep what ``regrow.toml`` says of a breaker's settings, for processes whose code says nothing."""
        try:
            client = self._client()
            client.hset(state_key(name), "declared", written(settings))
            if client.hlen(state_key(name)) == 1:  # nobody uses it yet, and perhaps never will
                client.expire(state_key(name), UNUSED)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    def forget(self, name: str) -> None:
        try:
            self._client().srem(NAMES_KEY, name)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    def shard(self, name: str) -> str:
        """The node of a cluster as far as it is known; one server keeps all."""
        client = self._made
        return client.node_of(state_key(name)) if isinstance(client, ClusterClient) else ""

    def listen(self) -> RedisListening:
        try:
            client = self._client()
            server = client.at_any_node() if isinstance(client, ClusterClient) else client
            return RedisListening(server.pubsub())  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error

    def after_fork(self) -> None:
        """In a child: make a client of its own, whatever state the parent's threads left this one in."""
        self._lock = threading.Lock()
        self._made = None
        self._begin_announcing()

    def _client(self) -> Client:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _begin_announcing(self) -> None:
        self._announced: dict[str, float] = {}
        self._swept_at = self._silent_until = -ANNOUNCE_EVERY

    def _announce(self, client: Client, names: Iterable[str]) -> None:
        """Put names on the list that were not put there lately. Without it steps are as good as with it."""
        now = time.monotonic()
        if now < self._silent_until:
            return
        due = [name for name in names if now - self._announced.get(name, -math.inf) >= ANNOUNCE_EVERY]
        if not due:
            return
        try:
            client.sadd(NAMES_KEY, *due)
        except (RedisError, OSError):
            self._silent_until = now + ANNOUNCE_AGAIN
            return
        if now - self._swept_at >= ANNOUNCE_EVERY:  # keys come and go; what is old tells nothing
            kept = {name: at for name, at in self._announced.items() if now - at < ANNOUNCE_EVERY}
            self._announced, self._swept_at = kept, now
        self._announced.update(dict.fromkeys(due, now))


def _called(name: str, config: BreakerConfig | None, event: Event, host: str = "") -> Call:
    kind, arguments = _spoken(event)
    keys = [state_key(name), transitions_key(name)]
    if isinstance(event, Report) and event.process:
        keys.append(process_key(name, event.process))
    settings = json.dumps(config.as_dict()) if config else ""
    return Call(tuple(keys), (settings, kind, host, *arguments))


def _unavailable(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"Redis did not take a step of a circuit breaker: {type(error).__name__}: {error}"
    )


def _spoken(event: Event) -> tuple[str, list[str | int]]:  # noqa: PLR0911 - one return an event
    """The event as the script's arguments."""
    match event:
        case Report():
            return "report", [
                event.epoch,
                event.successes,
                event.failures,
                event.run,
                event.slow,
                event.sequence,
            ]
        case AskProbe():
            return "ask", [event.token]
        case RenewProbe():
            return "renew", [event.token, int(event.parked)]
        case SettleProbe():
            return "settle", [event.token, event.epoch, event.result.value]
        case Order():
            over = "" if event.over is None else event.over
            return "order", [
                event.kind.value,
                event.actor,
                event.reason,
                event.expires_ms,
                over,
                event.after,
            ]
        case Restore():
            override = event.override.value if event.override else ""
            return "restore", [
                event.epoch,
                event.state.value,
                event.open_ms,
                override,
                event.actor,
                event.reason,
                event.override_ms,
                int(event.alone),
                "" if event.closed_ms is None else event.closed_ms,
            ]
        case Look():
            return "look", [int(event.advance)]


def _outcome(reply: list[Any]) -> Outcome:
    known, accepted, now, transitions, settings, *state = reply
    config = BreakerConfig.from_dict(json.loads(_text(settings))) if settings else BreakerConfig()
    kept = _paired(state[0])
    told = tuple(_transition(_paired(flat)) for flat in transitions)
    return Outcome(
        breaker=_breaker(kept) if int(known) else None,
        now=int(_text(now)),
        accepted=bool(int(accepted)),
        transitions=told,
        config=config,
        declared=read(kept.get("declared", "")),
    )


def _breaker(fields: dict[str, str]) -> Breaker:
    override = None
    if fields["override"]:
        override = Override(
            OverrideKind(fields["override"]),
            fields["override_actor"],
            fields["override_reason"],
            int(fields["override_until"]),
        )
    hosts = _hosts(fields)
    return Breaker(
        state=State(fields["state"]),
        epoch=int(fields["epoch"]),
        since=int(fields["since"]),
        open_until=int(fields["open_until"]),
        run=int(fields["run"]),
        window=tuple(_slot(hosts, *map(int, slot)) for slot in _parts(fields["window"])),
        probe_successes=int(fields["probe_successes"]),
        leases=tuple(Lease(token, int(b), int(c)) for token, b, c in _parts(fields["leases"])),
        wanted=fields["wanted"] == "1",
        override=override,
        would_open=int(fields["would_open"]),
        minted=int(fields["minted"]),
        closed_at=int(fields["closed_at"]),
        hosts=hosts,
    )


def _slot(hosts: tuple[Host, ...], start: int, successes: int, failures: int, slow: int, place: int) -> Slot:
    """``place``: of its host among all, from 1 on; 0: not told."""
    return Slot(start, successes, failures, slow, hosts[place - 1].name if place else "")


def _hosts(fields: dict[str, str]) -> tuple[Host, ...]:
    leases: dict[str, tuple[Lease, ...]] = {}
    for name, token, expires, granted in _parts(fields["host_leases"]):
        leases[name] = (*leases.get(name, ()), Lease(token, int(expires), int(granted)))
    return tuple(_host(leases.get(name, ()), name, *told) for name, *told in _parts(fields["hosts"]))


def _host(leases: tuple[Lease, ...], name: str, seen: str, shared: str, *own: str) -> Host:
    epoch, state, since, open_until, closed_at, run, probe_successes, wanted = own
    return Host(
        name,
        int(seen),
        int(shared),
        Breaker(
            state=State(state),
            epoch=int(epoch),
            since=int(since),
            open_until=int(open_until),
            closed_at=int(closed_at),
            run=int(run),
            probe_successes=int(probe_successes),
            leases=leases,
            wanted=wanted == "1",
        ),
    )


def _transition(fields: dict[str, str]) -> Transition:
    return Transition(
        epoch=int(fields["epoch"]),
        previous=int(fields["previous"]),
        from_state=State(fields["from_state"]),
        to_state=State(fields["to_state"]),
        reason=fields["reason"],
        at=int(fields["at"]),
        actor=fields["actor"],
        successes=int(fields["successes"]),
        failures=int(fields["failures"]),
        run=int(fields["run"]),
        override=fields["override"],
        # Entries of earlier versions wait here for up to a week.
        slow=int(fields.get("slow", 0)),
        reporter=fields.get("reporter", ""),
    )


def _paired(flat: list[Any]) -> dict[str, str]:
    texts = [_text(value) for value in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _parts(text: str) -> Iterable[list[str]]:
    return (part.split(":") for part in text.split(";")) if text else ()


def _text(value: Any) -> str:
    """A reply as text, whether or not the client decodes."""
    return value.decode() if isinstance(value, bytes) else str(value)

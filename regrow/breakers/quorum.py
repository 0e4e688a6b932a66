"""Who fails: the fleet, or one of its hosts alone. And how a breaker looks from one of its hosts.

A reporter is a host or container, not a process. With one reporter alive its word is the fleet's. With two
or more the fleet opens only when it would open even without any one of them; a host whose own calls would
open a breaker opens for itself, and from then on its calls are no evidence about the others.

What a host has of its own is a :class:`Breaker` like any other: the same rules open it, lend its probes and
close it. See docs/decisions/ on the quorum of hosts for why.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from regrow.breakers.config import BreakerConfig
from regrow.breakers.model import Breaker, Host, Slot, State

PRESENT_MS = 5_000  # a host is alive so long after it last spoke: idle processes speak every 2 s
SEEN_EVERY_MS = 1_000  # how finely it is noted when a host last spoke
MAX_HOSTS = 64  # told apart; in a larger fleet the rest count as one
OTHERS = "~"  # the name of that rest
LONGEST_HOST = 63


def host_name(text: str) -> str:
    """A host's or container's name as a breaker notes it: 1 to 63 letters, digits, dots, dashes."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:LONGEST_HOST] or "unnamed"


# Hosts ------------------------------------------------------------------------------------------------


def tag(breaker: Breaker, name: str) -> str:
    """The name under which a host counts here."""
    if not name or len(breaker.hosts) < MAX_HOSTS or _find(breaker, name) is not None:
        return name
    return OTHERS


def noted(breaker: Breaker, name: str, now: int) -> Breaker:
    """A process of this host has spoken."""
    if not name:
        return breaker
    host = _find(breaker, name)
    if host is None:
        return replace(breaker, hosts=(*breaker.hosts, Host(name, now)))
    if now - host.seen < SEEN_EVERY_MS:
        return breaker
    return with_host(breaker, replace(host, seen=now))


def lives(host: Host, now: int) -> bool:
    """Whether the host has spoken lately."""
    return now - host.seen < PRESENT_MS


def alive(breaker: Breaker, now: int) -> int:
    """How many hosts are alive."""
    return sum(lives(host, now) for host in breaker.hosts)


def is_out(breaker: Breaker, host: Host, now: int) -> bool:
    """Whether the host is open for itself alone (or would be, where nobody is refused)."""
    own = host.own
    return own.epoch > breaker.epoch and (own.state is not State.CLOSED or now < own.open_until)


def gone(config: BreakerConfig, breaker: Breaker, host: Host, now: int) -> bool:
    """Whether a host has been silent for so long that nothing of it counts any more."""
    silent = now - host.seen >= max(config.window_ms, PRESENT_MS)
    return silent and all(slot.host != host.name for slot in breaker.window)


def with_host(breaker: Breaker, host: Host) -> Breaker:
    """The breaker with what is now known of one of its hosts."""
    return replace(
        breaker, hosts=tuple(host if other.name == host.name else other for other in breaker.hosts)
    )


def _find(breaker: Breaker, name: str) -> Host | None:
    return next((host for host in breaker.hosts if host.name == name), None)


# The breaker as a host sees it ------------------------------------------------------------------------


def seen_from(breaker: Breaker, name: str) -> Breaker:
    """The state that holds for this host: its own where it has one, else the fleet's."""
    host = _find(breaker, tag(breaker, name))
    return breaker if host is None or host.own.epoch <= breaker.epoch else _own(breaker, host)


def part_of(breaker: Breaker, name: str) -> Breaker | None:
    """This host's own breaker with its own evidence; None for a host that was never noted."""
    host = _find(breaker, name)
    if host is None:
        return None
    return replace(
        _own(breaker, host), window=tuple(slot for slot in breaker.window if slot.host == host.name)
    )


def put_back(breaker: Breaker, name: str, own: Breaker) -> Breaker:
    """The breaker after something happened to what the host has of its own."""
    host = _find(breaker, name)
    assert host is not None  # noqa: S101 - it was taken from there
    kept = replace(own, window=(), override=None, would_open=0, minted=0, hosts=())
    return replace(
        with_host(breaker, replace(host, own=kept)),
        minted=max(breaker.minted, own.epoch),
        would_open=own.would_open,
    )


def without_evidence_of(breaker: Breaker, name: str) -> Breaker:
    """The breaker without a host's calls: they said something about the host, not about the fleet."""
    host = _find(breaker, name)
    assert host is not None  # noqa: S101 - it has just opened
    return replace(
        with_host(breaker, replace(host, shared=0)),
        run=breaker.run - host.shared,
        window=tuple(slot for slot in breaker.window if slot.host != name),
    )


def on_its_own(breaker: Breaker, name: str) -> Breaker:
    """What a process of this host goes on from when it hears of no other."""
    seen = seen_from(breaker, name)
    return replace(seen, run=breaker.run, window=breaker.window, hosts=(), minted=breaker.minted)


def _own(breaker: Breaker, host: Host) -> Breaker:
    """A host's own state, or a closed one; overrides are the fleet's."""
    own = host.own if host.own.epoch > breaker.epoch else Breaker(epoch=host.own.epoch, run=host.own.run)
    return replace(
        own,
        override=breaker.override,
        would_open=breaker.would_open,
        minted=max(breaker.minted, breaker.epoch),
    )


# What trips -------------------------------------------------------------------------------------------


def reason_to_open(config: BreakerConfig, breaker: Breaker) -> str | None:
    """Why this evidence opens a breaker, whoever reported it; None when it does not."""
    return _reason(config, breaker, lambda _rule: True, together=True)


def reason_for_the_fleet(config: BreakerConfig, breaker: Breaker, now: int) -> str | None:
    """Why the fleet opens: by this evidence, and not by one of several hosts alone.

    Where a host is open for itself already, it is the one without which the evidence must do: it does.
    """
    lonely = alive(breaker, now) <= 1
    another = any(lives(host, now) and is_out(breaker, host, now) for host in breaker.hosts)
    if lonely or another:
        return reason_to_open(config, breaker)
    names = {slot.host for slot in breaker.window}
    parts = [[slot for slot in breaker.window if slot.host != name] for name in names]
    known = sum(host.shared for host in breaker.hosts)
    in_the_run = sum(host.shared > 0 for host in breaker.hosts) + (breaker.run > known)
    return _reason(
        config,
        breaker,
        lambda rule: all(rule(config, part) is not None for part in parts),
        together=in_the_run > 1,
    )


_Rule = Callable[[BreakerConfig, "list[Slot]"], str | None]


def _reason(
    config: BreakerConfig, breaker: Breaker, agreed: Callable[[_Rule], bool], *, together: bool
) -> str | None:
    """``agreed``: whether hosts agree by a rule on the window; ``together``: about the run of failures."""
    if breaker.run >= config.failure_threshold and together:
        return f"{breaker.run} failures in a row"
    for rule in (_failing, _slow):
        reason = rule(config, list(breaker.window))
        if reason is not None and agreed(rule):
            return reason
    return None


def _failing(config: BreakerConfig, window: list[Slot]) -> str | None:
    failures = sum(slot.failures for slot in window)
    total = failures + sum(slot.successes for slot in window)
    if total >= config.minimum_requests and failures >= config.failure_rate * total:
        return f"{failures} of {total} calls failed"
    return None


def _slow(config: BreakerConfig, window: list[Slot]) -> str | None:
    slow = sum(slot.slow for slot in window)
    total = sum(slot.successes + slot.failures for slot in window)
    if total >= config.minimum_requests and 0 < slow >= config.slow_call_rate * total:
        return f"{slow} of {total} calls slow"
    return None

"""Deficit round-robin: every service gets its turn, however long the queue of another one is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def share_out(
    size: int, services: Sequence[str], credits_: Mapping[str, float]
) -> tuple[dict[str, int], dict[str, float]]:
    """How many of ``size`` letters each service may take in this round, and what it is owed after it.

    A round that is too small for all (3 letters, 10 services) leaves a fraction owed to each, so that every
    service is served within ten rounds. ``credits_``: what is owed from the round before.
    """
    owed = {name: credits_.get(name, 0.0) + size / len(services) for name in services}
    shares, left = dict.fromkeys(services, 0), size
    for name in sorted(services, key=lambda name: -owed[name]):
        shares[name] = min(left, int(owed[name] + 1e-9))
        left -= shares[name]
    if left == size:  # a fraction for each: somebody has to begin
        shares[max(owed, key=lambda name: owed[name])] = 1
    return shares, {name: owed[name] - shares[name] for name in services}

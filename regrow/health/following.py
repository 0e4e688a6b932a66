"""A batch of results, folded into the states of their checks. Pure rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from regrow.health.causes import Graph, cause_of
from regrow.health.rules import Declared, Result, stale_after
from regrow.health.status import Change, Policy, State, follow


@dataclass(frozen=True)
class Flapping:
    """Percent of weighted change, from which a check flaps and below which it is steady again."""

    begins: float = 30.0
    ends: float = 20.0


def policy_of(check: Declared, flapping: Flapping) -> Policy:
    """By what a check's results are judged."""
    return Policy(
        failures=check.failures,
        successes=check.successes,
        flapping_from=flapping.begins,
        flapping_until=flapping.ends,
        gap=stale_after(check.interval, check.timeout),
    )


def follow_all(
    results: Iterable[Result], known: Mapping[str, State], graph: Graph, flapping: Flapping
) -> tuple[list[State], list[Change]]:
    """The states after these results, and the changes that they make, with their causes.

    ``known``: the states of all checks before. Results of checks that are not in ``graph`` are left out.
    """
    after = dict(known)
    told: list[Change] = []
    policies: dict[str, Policy] = {}
    for result in sorted(results, key=lambda result: result.at):
        check = graph.get(result.check)
        if check is None:
            continue
        policy = policies.get(check.name)
        if policy is None:
            policy = policies[check.name] = policy_of(check, flapping)
        after[check.name], change = follow(after.get(check.name), result, policy)
        told += [change] if change is not None else []
    down = down_among(after.values())
    changes = [
        replace(change, cause=cause_of(change.check, down, graph))
        if change.to_status == "unhealthy"
        else change
        for change in told
    ]
    return [after[name] for name in policies], changes


def down_among(states: Iterable[State]) -> dict[str, datetime]:
    """The checks that are down, confirmed or by their last result, and since when."""
    found = {}
    for state in states:
        if state.status == "unhealthy":
            found[state.check] = state.began
        elif state.recent.endswith("u"):
            found[state.check] = state.off_since or state.at
    return found


def newest_of(*several: Mapping[str, State]) -> dict[str, State]:
    """Of several memories of each check the one that holds."""
    found: dict[str, State] = {}
    for states in several:
        for name, state in states.items():
            if state.is_newer_than(found.get(name)):
                found[name] = state
    return found

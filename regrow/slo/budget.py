"""Error budgets: how much downtime a promise allows, how much is spent, how fast, how long it lasts. Pure.

With a target T over a window, E of it counting (see ``ledger``) and D of that down:

    total = (1 - T) x E      remaining = 1 - D / total      burn(w) = (D_w / E_w) / (1 - T)

The time before the first result of a check counts here as if it had been up: a promise is about a whole
window.

A burn of 1 spends the budget exactly within the window; whatever remains lasts remaining x window / burn.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from regrow.slo.ledger import NOTHING, Ledger


@dataclass(frozen=True, slots=True)
class Budget:
    """``remaining``: the share that is left, below 0 when too much is spent. None: nothing counts."""

    total: timedelta
    spent: timedelta
    remaining: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What some time took of an objective: its downtime, and the budget of the window that ended then."""

    objective: str
    target: float
    window: timedelta
    down: timedelta
    budget: timedelta

    @property
    def share(self) -> float | None:
        """1.0 is the whole budget; None when the window had none."""
        return self.down / self.budget if self.budget else None


def budget(found: Ledger, target: float) -> Budget:
    """What the account of the objective's window leaves of its budget."""
    total = found.promised * (1 - target)
    remaining = 1 - found.down / total if total else None
    return Budget(total, found.down, remaining)


def burn(found: Ledger, target: float) -> float | None:
    """How many times too fast the budget was spent over a window; None when nothing in it counts."""
    return bad_share_burn(found.down / found.promised, target) if found.eligible else None


def bad_share_burn(bad: float, target: float) -> float:
    """The burn of a share of bad time, or of bad requests."""
    return bad / (1 - target)


def exhausted_in(remaining: float | None, rate: float | None, window: timedelta) -> timedelta | None:
    """How long the rest lasts at this burn; zero when nothing is left, None: for good, or not known."""
    if remaining is None or rate is None:
        return None
    if remaining <= 0:
        return NOTHING
    if rate <= 0:
        return None
    seconds = remaining * window.total_seconds() / rate
    return timedelta(seconds=seconds) if seconds < timedelta.max.total_seconds() / 2 else None

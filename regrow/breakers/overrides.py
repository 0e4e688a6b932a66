"""Orders that outlive Redis: the last one a person gave each breaker, in the table ``breaker_overrides``.

Whoever orders needs Redis alone. The monitor writes the order down at its next run, from what Redis tells;
the command line does so at once. When Redis has forgotten (flushed, failed over to an empty one) and no
process told it again, :func:`restored_by` says what puts a standing override back.

Epochs decide. A row gives way only to a higher epoch, and an override is put back only over the very state in
which it was found missing: what a person lifted, or gave anew, in the meantime stays as it is. Each step may
be done again, or by two at once, or not at all because the process died: the next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from regrow.breakers.rules import Breaker, Order, OrderKind, Override, OverrideKind, Transition
from regrow.breakers.status import moment
from regrow.database.inserting import insert_new
from regrow.database.tables import breaker_overrides as table

_ORDERS = {
    OverrideKind.FORCED_OPEN: OrderKind.FORCE_OPEN,
    OverrideKind.DISABLED: OrderKind.DISABLE,
    OverrideKind.METRICS_ONLY: OrderKind.METRICS_ONLY,
}


@dataclass(frozen=True)
class LastOrder:
    """What a person told a breaker last. ``kind`` None: a reset. Times in ms of Redis' clock.

    ``until`` 0: until someone resets the breaker.
    """

    epoch: int
    kind: OverrideKind | None
    actor: str
    reason: str
    at: int
    until: int = 0

    def stands(self, now: int) -> bool:
        """Whether it holds a breaker at this moment."""
        return self.kind is not None and (not self.until or now < self.until)


# The rules ------------------------------------------------------------------------------------------------


def told_by(
    breaker: Breaker | None, stream: Sequence[Transition], kept: LastOrder | None
) -> LastOrder | None:
    """The order, or the end of one, that Redis tells of and the table does not have yet; None without one.

    ``stream``: the transitions that Redis keeps, oldest first; read after ``breaker``.
    """
    newest = max((told for told in stream if told.actor and not told.override), key=_epoch, default=None)
    found = [LastOrder(newest.epoch, None, newest.actor, _why(newest), newest.at)] if newest else []
    if breaker is not None and breaker.override is not None:
        found.append(standing(breaker, breaker.override))
    last = max(found, key=_epoch, default=None)
    if kept is None:
        return last if last is not None and last.kind is not None else None
    if last is not None and last.epoch > kept.epoch:
        return last
    if (
        kept.kind is not None
        and breaker is not None
        and breaker.override is None
        and breaker.epoch > kept.epoch
    ):
        return _unseen_end(breaker, stream, kept)
    return None


def restored_by(
    breaker: Breaker | None, stream: Sequence[Transition], kept: LastOrder, now: int
) -> Order | None:
    """The command that puts back what Redis forgot; None when it forgot nothing that still holds.

    ``kept`` is newer than anything that Redis tells of (:func:`told_by`). ``now``: Redis' clock.
    """
    if breaker is None:  # the next step would begin it anew, after the history
        breaker = Breaker(epoch=stream[-1].epoch + 1 if stream else 0)
    epoch, held = breaker.epoch, breaker.override
    if kept.stands(now) and kept.kind is not None:
        if held is not None and held.kind is kept.kind and held.until == kept.until:
            return None
        left = kept.until - now if kept.until else 0
        return Order(_ORDERS[kept.kind], kept.actor, kept.reason, left, over=epoch, after=kept.epoch)
    if held is not None and epoch < kept.epoch:  # an older copy of Redis holds what was lifted since
        return Order(OrderKind.RESET, kept.actor, kept.reason, over=epoch, after=kept.epoch)
    return None


def _unseen_end(breaker: Breaker, stream: Sequence[Transition], kept: LastOrder) -> LastOrder | None:
    """How an override ended that is gone at a later epoch; None when Redis merely forgot it.

    It forgot when its transitions lead back to a memory that began anew, not to the override.
    """
    by_epoch = {told.epoch: told for told in stream}
    epoch = breaker.epoch
    while (told := by_epoch.get(epoch)) is not None and epoch > kept.epoch:
        epoch = told.previous
    began_anew = (
        epoch < kept.epoch or (breaker.since == 0 and epoch == breaker.epoch) or epoch - 1 in by_epoch
    )
    if began_anew:
        return None
    if epoch == kept.epoch:
        return LastOrder(breaker.epoch, None, "", f"{kept.kind} expired", breaker.since)
    # A process told Redis of a later state whose beginning nobody wrote down: a person's or its expiry's.
    return LastOrder(breaker.epoch, None, "", "lifted while Redis was away", breaker.since)


def standing(breaker: Breaker, override: Override) -> LastOrder:
    """The order that holds a breaker."""
    return LastOrder(
        breaker.epoch, override.kind, override.actor, override.reason, breaker.since, override.until
    )


def _why(reset: Transition) -> str:
    """The reason as the person gave it."""
    return reset.reason.removeprefix("restored: ").removeprefix("reset").removeprefix(": ")


def _epoch(told: Transition | LastOrder) -> int:
    return told.epoch


# The table ------------------------------------------------------------------------------------------------


def kept_orders(connection: sa.Connection, name: str | None = None) -> dict[str, LastOrder]:
    """The last order of each breaker, or of one."""
    query = sa.select(table)
    if name is not None:
        query = query.where(table.c.breaker == name)
    return {
        row["breaker"]: LastOrder(
            epoch=row["epoch"],
            kind=OverrideKind(row["kind"]) if row["kind"] else None,
            actor=row["actor"],
            reason=row["reason"],
            at=_ms(row["at"]),
            until=_ms(row["until"]) if row["until"] else 0,
        )
        for row in connection.execute(query).mappings()
    }


def keep(connection: sa.Connection, name: str, order: LastOrder) -> bool:
    """Write an order down, unless a later one is there; whether it was written."""
    values = {
        "epoch": order.epoch,
        "kind": order.kind.value if order.kind else None,
        "actor": order.actor,
        "reason": order.reason,
        "at": moment(order.at),
        "until": moment(order.until) if order.until else None,
    }
    older = sa.update(table).where(table.c.breaker == name, table.c.epoch < order.epoch).values(values)
    if connection.execute(older).rowcount:
        return True
    insert = insert_new(table)
    return bool(connection.execute(insert.values(breaker=name, **values)).rowcount)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)

"""A retry budget that a fleet shares: one balance in Redis, and what each process may spend between looks.

A process tells Redis every 100 ms how many calls it made and how many retries it wants, and is granted whole
ones, which are paid for then and there. When it wants one and holds none, it lends itself **one**, if there
was something left when it last heard, and pays with the next exchange. So the fleet's retries never exceed
``burst + share * calls + per_second * seconds`` by more than one a process.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import astuple, dataclass, replace

from redis.exceptions import RedisError

from regrow.configuration import configured
from regrow.redis import connect
from regrow.redis_cluster import Client
from regrow.redis_scripts import call, script
from regrow.retries.allowance import Allowance

logger = logging.getLogger("regrow.retries")

LOAN = 1  # retries a process may make, between two exchanges, that it was not granted
TIMEOUT = 0.25  # seconds
RETRY_EVERY = 1.0  # seconds between two tries of an absent Redis


@dataclass(frozen=True, slots=True)
class Account:
    """A process's side. In retries, but ``calls``; all since the last exchange, but ``hand``."""

    hand: int = 0
    """Granted and not yet made."""
    calls: int = 0
    lent: int = 0
    wanted: int = 0
    solvent: bool = True
    """Whether the fleet had something left when this process last heard."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process tells: see ``budget.lua``."""

    calls: int
    lent: int
    back: int
    ask: int


def spent(account: Account) -> tuple[Account, bool]:
    """The account after a retry was wanted, and whether it may be made."""
    wanting = replace(account, wanted=account.wanted + 1)
    if account.hand >= 1:
        return replace(wanting, hand=account.hand - 1), True
    if account.solvent and account.lent < LOAN:
        return replace(wanting, lent=account.lent + 1), True
    return wanting, False


def claimed(account: Account) -> tuple[Account, Claim]:
    """The account while an exchange is under way, and what is told.

    What was wanted is taken for what will be, twice over; who wanted nothing gives back what it holds.
    """
    if account.wanted:
        ask, back = max(0, 2 * account.wanted - account.hand), 0
    else:
        ask, back = 0, account.hand
    rest = Account(hand=account.hand - back, solvent=account.solvent)
    return rest, Claim(account.calls, account.lent, back, ask)


def granted(account: Account, retries: int, left: float) -> Account:
    """The account after Redis answered."""
    return replace(account, hand=account.hand + retries, solvent=left >= LOAN)


class SharedBudget:
    """This process's part in the budget ``name``. Threads share it; its owner sees to forks."""

    def __init__(self, name: str, allowance: Allowance) -> None:
        self.name = name
        self.allowance = allowance
        self._lock = threading.Lock()
        self._account = Account()
        self._client: Client | None = None
        self._url: str | None = None
        self._retry_at = 0.0
        self.alone = True
        """Whether the process keeps to the budget by itself: without Redis, or while it is away."""

    def call(self) -> None:
        with self._lock:
            self._account = replace(self._account, calls=self._account.calls + 1)

    def spend(self) -> bool:
        with self._lock:
            self._account, paid = spent(self._account)
            return paid

    @property
    def due(self) -> bool:
        account = self._account
        told = account.calls or account.lent or account.wanted or account.hand
        return bool(told) and time.monotonic() >= self._retry_at

    def ride(self) -> None:
        """One exchange. What was lent and may not have arrived is told again: rather paid twice than not."""
        with self._lock:
            before = self._account
            self._account, claim = claimed(before)
        try:
            answer = self._exchange(claim)
        except (RedisError, OSError) as error:
            self._lose(before, error)
            return
        if answer is not None:
            with self._lock:
                self._account = granted(self._account, *answer)
            if self.alone:
                logger.info("retries.budget_shared", extra={"budget": self.name})
            self.alone = False

    def _exchange(self, claim: Claim) -> tuple[int, float] | None:
        """The retries granted and the balance left; None without a Redis."""
        url = configured().redis_url
        if url is None:
            self.alone = True
            return None
        if self._client is None or url != self._url:
            self._client, self._url = (
                connect(url, socket_timeout=TIMEOUT, connect_timeout=TIMEOUT, max_connections=2),
                url,
            )
        retries, left = call(
            self._client,
            script("regrow.retries", "budget.lua"),
            [f"regrow:{{retries:{self.name}}}:budget"],
            [*astuple(self.allowance), *astuple(claim)],
        )
        return int(retries), float(left)

    def _lose(self, before: Account, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_EVERY
        with self._lock:
            self._account = replace(self._account, hand=0, lent=self._account.lent + before.lent)
        if not self.alone:
            self.alone = True
            logger.warning(
                "retries.budget_alone: Redis is away, each process keeps to the budget by itself",
                extra={"budget": self.name, "error": str(error)},
            )

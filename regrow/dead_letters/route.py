"""What a way home is. One file each in ``routes``; the redrive asks for a letter's route and sends it there.

Two kinds, told apart by what settles a letter that went there:

- ``outcome`` and ``publish``: somebody else runs the message. ``send`` returns when it is handed over; the
  letter then waits for its outcome, or is settled by the hand-over itself.
- ``return``: the message runs here, inside ``send``, and is settled when that returns. The redrive guards it
  by the circuit breaker of the letter's service, because no app's own breaker stands behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from regrow.dead_letters.home import attempt_reference
from regrow.dead_letters.store import Addressed, Body, Leased

Settled = Literal["outcome", "publish", "return"]


@dataclass(frozen=True)
class Place:
    """A queue in which messages wait to be run. ``broker``: one of the settings; None: Regrow's own."""

    broker: str | None
    queue: str


@dataclass(frozen=True)
class Outbound:
    """A letter on its way home, in the attempt that ``token`` stands for."""

    letter: Addressed
    body: Body
    token: str

    @classmethod
    def of(cls, leased: Leased) -> Outbound:
        return cls(leased.letter, leased.body, leased.token)

    @property
    def reference(self) -> str:
        """``LETTER:TOKEN``: whoever tells the outcome gives it back."""
        return attempt_reference(self.letter.id, self.token)

    @property
    def effect_key(self) -> str:
        """What the receiver can tell repeats by: the same for every redrive of the message, in every
        generation."""
        return self.letter.idempotency_key


class Route(Protocol):
    """A way home that was found for one letter; nothing is opened before ``send``."""

    @property
    def target(self) -> str:
        """Where it leads, for logs and people: no secrets, no query strings."""

    @property
    def settled(self) -> Settled:
        """What settles a letter that went this way."""

    @property
    def runs_here(self) -> bool:
        """Whether ``send`` runs the message itself: ``settled`` is ``return``."""

    @property
    def longest(self) -> float:
        """Seconds that ``send`` may take. One that runs here is given up for dead after them."""

    @property
    def breaker(self) -> str:
        """The circuit breaker that guards ``send``: the broker's, or the service's where it runs here."""

    @property
    def place(self) -> Place | None:
        """Where the message waits, as far as that is one queue that its broker can be asked about."""

    def send(self, outbound: Outbound) -> None:
        """Hand the message over, or run it. Once: nothing is tried again in here.

        RouteError: it cannot go this way, a person must look. StoreUnavailableError: the broker is away and
        has not got it. Of routes that run here alone: DeliveryFailedError (it failed again; perhaps when to
        come back), DeliveryRefusedError (it will never be taken), CircuitOpenError (not tried).
        """

    def validate(self, outbound: Outbound) -> None:
        """Say whether it would be taken, as far as that can be known without any effect. For preflights.

        RouteError or DeliveryRefusedError when it would not.
        """

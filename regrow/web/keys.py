"""The rules of who is let in: the key's digest, signed sessions, and a brake on guessing.

Time and randomness are arguments. The key itself is not kept: only its digest, and a signing key made
from it, so that changing the key ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

SESSION_SECONDS = 12 * 3600
WEAK_BELOW = 16
"""A key shorter than this many characters can be guessed by somebody patient."""


@dataclass(frozen=True)
class Key:
    """What is kept of an API key."""

    digest: bytes = field(repr=False)
    signing: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: str) -> Key:
        raw = secret.encode()
        signing = hmac.digest(raw, b"regrow web session, version 1", "sha256")
        return cls(hashlib.sha256(raw).digest(), signing)

    def matches(self, given: str) -> bool:
        """Compared over digests, in constant time: neither length nor content can be told from outside."""
        return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), self.digest)

    def session(self, now: float, nonce: str) -> str:
        """A cookie value that is good for :data:`SESSION_SECONDS`; ``now`` in epoch seconds."""
        claim = f"{int(now) + SESSION_SECONDS}.{nonce}"
        return f"{claim}.{self._signature(claim)}"

    def admits(self, session: str, now: float) -> bool:
        """Whether this key signed the session and its time is not over."""
        claim, _, signature = session.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(claim).encode()):
            return False
        return now < int(claim.split(".", 1)[0])  # the signature holds, so the claim is ours

    def _signature(self, claim: str) -> str:
        return hmac.new(self.signing, claim.encode(), "sha256").hexdigest()


@dataclass
class Guesses:
    """Wrong keys, counted by address: ``allowed`` within ``window`` seconds, then that address must wait.

    Somebody who holds a session is not affected. An IPv6 guesser owns a whole /64, so that is the address.
    """

    allowed: int = 10
    window: float = 60.0
    remembered: int = 4096
    _wrong: OrderedDict[str, list[float]] = field(default_factory=OrderedDict)

    def wait(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        recent = self._recent(_network(address), now)
        return max(0.0, recent[0] + self.window - now) if len(recent) >= self.allowed else 0.0

    def wrong(self, address: str, now: float) -> None:
        network = _network(address)
        self._wrong[network] = [*self._recent(network, now), now][-self.allowed :]
        self._wrong.move_to_end(network)
        while len(self._wrong) > self.remembered:
            self._wrong.popitem(last=False)

    def _recent(self, network: str, now: float) -> list[float]:
        return [at for at in self._wrong.get(network, ()) if now - at < self.window]


def is_loopback(address: str) -> bool:
    """Whether an address or host name can only mean this machine."""
    bare = address.strip("[]").lower()
    if bare == "localhost":
        return True
    try:
        found = ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _network(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ip_network((found, 64), strict=False))

"""The signature of a webhook: ``Regrow-Signature: t=SECONDS,v1=HEX[,v1=HEX]``. The standard library alone.

Each ``v1`` is the HMAC-SHA256, in hexadecimal, of ``SECONDS.BODY`` (the time in decimal, a full stop, the
body byte for byte) under one of the sender's keys. A key is replaced without a gap by signing with the old
and the new one for a while.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

HEADER = "Regrow-Signature"
TOLERANCE = 300.0
"""Seconds that the clocks of sender and receiver may differ, the way between them included."""


def sign(body: bytes, keys: Iterable[str], at: float) -> str:
    """The header's value; ``at`` in epoch seconds."""
    signatures = (f"v1={_digest(body, key, str(int(at)))}" for key in keys)
    return ",".join((f"t={int(at)}", *signatures))


def verify(header: str, body: bytes, keys: Iterable[str], now: float, tolerance: float = TOLERANCE) -> bool:
    """Whether one of ``keys`` signed this body, at most ``tolerance`` seconds ago (or ahead).

    For receivers, over the raw body as it came in, before anything parses it.
    """
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value.encode() for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal()):
        return False
    if abs(now - int(times[0])) > tolerance:
        return False
    wanted = [_digest(body, key, times[0]).encode() for key in keys]
    return any(hmac.compare_digest(one, other) for one in given for other in wanted)


def _digest(body: bytes, key: str, at: str) -> str:
    return hmac.new(key.encode(), f"{at}.".encode() + body, "sha256").hexdigest()

"""What the entries of a spool say: a capture, or how an attempt of a redriven letter ended. Pure.

An entry is bytes from the app's disk to Regrow's worker, and nobody in between looks into it: whatever seals
them on the way in (``to_bytes``) and opens them on the way out (``from_bytes``) changes nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from regrow.dead_letters.captured import Capture, from_wire, to_wire
from regrow.dead_letters.classes import NOTHING_KNOWN, Cause
from regrow.errors import LetterRefusedError


@dataclass(frozen=True)
class Outcome:
    """How an attempt (LETTER:TOKEN) ended; ``error`` None is success."""

    attempt: str
    error: str | None = None
    cause: Cause = NOTHING_KNOWN


def to_bytes(told: Capture | Outcome) -> bytes:
    if isinstance(told, Outcome):
        outcome = {"attempt": told.attempt, "error": told.error, "cause": told.cause.wire()}
        return json.dumps({"outcome": outcome}).encode()
    return json.dumps({"capture": to_wire(told)}).encode()


def from_bytes(entry: bytes) -> Capture | Outcome:
    """The inverse of :func:`to_bytes`; LetterRefusedError when this version cannot read it."""
    try:
        told = json.loads(entry)
        if "capture" in told:
            return from_wire(told["capture"])
        attempt, error = told["outcome"]["attempt"], told["outcome"].get("error")
        cause = Cause.of_wire(told["outcome"].get("cause"))
    except (ValueError, KeyError, TypeError, AttributeError) as defect:
        raise LetterRefusedError(f"not a spool entry that this version can read: {defect!r}") from None
    if not isinstance(attempt, str) or not isinstance(error, str | None):
        raise LetterRefusedError("not a spool entry that this version can read: an outcome of no attempt")
    return Outcome(attempt, error, cause)

"""What travels from a spool to Regrow's workers: entries of one source, by their numbers. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from regrow.errors import LetterRefusedError

TASK, QUEUE = "regrow.dead_letters.receive", "regrow.capture"
RECEIPT_TTL = 7 * 86_400
"""Seconds; a source whose receipt has gone from Redis sends again, and is told again."""


def receipt_key(source: str) -> str:
    """Where Redis holds the watermark of a source: all its entries up to that number are received."""
    return f"regrow:{{received}}:{source}"


@dataclass(frozen=True)
class Parcel:
    """Entries of one source, by their numbers.

    ``after``: all up to this number were received before and are deleted. ``lost``: ranges of numbers whose
    records are damaged.
    """

    source: str
    after: int
    entries: tuple[tuple[int, bytes], ...]
    lost: tuple[tuple[int, int], ...] = ()
    host: str = ""

    @property
    def last(self) -> int:
        return max([number for number, _ in self.entries] + [last for _, last in self.lost])

    def one_by_one(self) -> Iterator[Parcel]:
        """The same, an entry to a parcel; what is lost goes with the first."""
        for position, entry in enumerate(self.entries):
            yield replace(self, entries=(entry,), lost=self.lost if position == 0 else ())

    def to_wire(self) -> dict[str, Any]:
        """As JSON values, to travel through the broker. :meth:`from_wire` is its inverse."""
        return {
            "source": self.source,
            "after": self.after,
            "entries": [[number, b64encode(entry).decode("ascii")] for number, entry in self.entries],
            "lost": [list(each) for each in self.lost],
            "host": self.host,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Parcel:
        """LetterRefusedError when it is not one."""
        try:
            return cls(
                str(wire["source"])[:64],
                int(wire["after"]),
                tuple((int(number), b64decode(entry, validate=True)) for number, entry in wire["entries"]),
                tuple((int(first), int(last)) for first, last in wire.get("lost") or ()),
                str(wire.get("host") or ""),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LetterRefusedError(f"not a parcel that this version can read: {error!r}") from None

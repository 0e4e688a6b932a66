"""How the spool writes an entry down, so that a torn or damaged one is known for what it is. Pure.

A record is a head (mark, length, checksum, number: 20 bytes, big-endian) and the payload. The checksum
(CRC-32) covers number and payload. What is damaged is skipped up to the next record that is whole, so that
one bad block costs only what was in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_MARK = b"\xf7RG1"
_HEAD = struct.Struct(">4sIIQ")
HEAD_BYTES = _HEAD.size


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a source; ``end`` is the offset behind it."""

    number: int
    payload: bytes
    end: int


def encode(number: int, payload: bytes) -> bytes:
    return _HEAD.pack(_MARK, len(payload), _checksum(number, payload), number) + payload


def scan(data: bytes) -> Iterator[Record]:
    """The whole records of ``data``, in order; damaged ones and a torn end are left out."""
    at = 0
    while at != -1:
        found = _record_at(data, at)
        if found is None:
            at = data.find(_MARK, at + 1)
        else:
            yield found
            at = found.end


def _record_at(data: bytes, at: int) -> Record | None:
    if len(data) - at < HEAD_BYTES:
        return None
    mark, length, checksum, number = _HEAD.unpack_from(data, at)
    end = at + HEAD_BYTES + length
    if mark != _MARK or end > len(data):
        return None
    payload = data[at + HEAD_BYTES : end]
    return Record(number, payload, end) if checksum == _checksum(number, payload) else None


def _checksum(number: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(number.to_bytes(8, "big")))

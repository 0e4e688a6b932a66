"""Recorded outcomes, read for a replay: a file of calls, or the results of a health check.

A file is JSON Lines (``.jsonl``, ``.ndjson``, ``.json``: one object a line) or CSV (anything else: with a
head line). Each has ``at`` (when the call ended: ISO 8601, or seconds since 1970), ``ok`` (true or false)
and, if known, ``seconds`` (how long it took) and ``host`` (where it was made). Other fields are not looked
at.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from regrow.breakers import quorum
from regrow.breakers.replay import Call
from regrow.database import Database
from regrow.database.tables import check_results as table
from regrow.errors import RegrowError

JSON_LINES = (".jsonl", ".ndjson", ".json")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def calls_of_file(path: Path, since: datetime | None = None) -> list[Call]:
    """The calls that a file tells of. RegrowError, naming the line, for one that cannot be understood."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = _json_rows(lines) if path.suffix.lower() in JSON_LINES else _csv_rows(lines)
            calls = [_call(row, f"{path}:{number}") for number, row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, _NotJsonError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RegrowError(f"{path} cannot be read: {why}") from None
    earliest = since.timestamp() * 1000 if since else -math.inf
    return [call for call in calls if call.at >= earliest]


def calls_of_check(database: Database, check: str, since: datetime) -> list[Call]:
    """The results of a health check as if each probe were a call; what was unknown is left out."""
    query = (
        sa.select(table.c.at, table.c.status, table.c.latency)
        .where(table.c.check_name == check, table.c.at >= since, table.c.status != "unknown")
        .order_by(table.c.at)
    )
    with database.snapshot() as connection:
        return [
            Call(_milliseconds(row.at.timestamp()), row.status == "unhealthy", row.latency)
            for row in connection.execute(query)
        ]


class _NotJsonError(Exception):
    """A line that is no JSON object."""


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise _NotJsonError(f"line {number} is no JSON object")
        yield number, row


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = csv.DictReader(lines)
    for row in rows:
        yield rows.line_num, row


def _call(row: Mapping[str, Any], place: str) -> Call:
    at, ok, seconds, host = (row.get(name) for name in ("at", "ok", "seconds", "host"))
    known = ok if isinstance(ok, bool) else _WORDS.get(str(ok).strip().lower())
    if known is None:
        raise RegrowError(f"{place}: ok is {ok!r}; write true or false")
    return Call(
        _moment(at, place),
        not known,
        None if seconds in (None, "") else _seconds(seconds, place),
        "" if host in (None, "") else quorum.host_name(str(host)),
    )


def _moment(at: object, place: str) -> int:
    try:
        return _milliseconds(float(at))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(str(at).strip())
    except ValueError:
        raise RegrowError(f"{place}: at is {at!r}; write a time in ISO 8601, or seconds since 1970") from None
    return _milliseconds((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _seconds(given: object, place: str) -> float:
    try:
        seconds = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise RegrowError(f"{place}: seconds is {given!r}; write a number, 0 or more, or leave it out")
    return seconds


def _milliseconds(seconds: float) -> int:
    return math.floor(seconds * 1000)

"""Receiving what spools sent: kept, and written down as received in one transaction; then Redis says so."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import sqlalchemy as sa
import structlog
from redis.exceptions import RedisError

from regrow.dead_letters import (
    capturing,
    home,
    returned,
    settling,
    sources,
    spool_entries,
    spool_sealing,
    unfiled,
)
from regrow.dead_letters.captured import Capture
from regrow.dead_letters.keyring import spool_keys
from regrow.dead_letters.receipts import Range, as_ranges
from regrow.dead_letters.spool_entries import Outcome
from regrow.dead_letters.spool_parcels import RECEIPT_TTL, Parcel, receipt_key
from regrow.engine import Engine
from regrow.errors import DiskUnavailableError, RouteError, StoreUnavailableError

logger = structlog.get_logger(__name__)


class EngineDestination:
    """For the shipper of a process that has the database: its commit is the receipt."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ship(self, parcel: Parcel) -> int | None:
        return receive(self._engine, parcel)

    def received(self, source: str) -> int | None:
        del source
        return None


@dataclass
class _Sorted:
    """``captures``: each with the number and the entry that it came in. ``full``: the disk did not take the
    file that another entry needs."""

    captures: list[tuple[int, bytes, Capture]]
    outcomes: list[Outcome]
    full: DiskUnavailableError | None = None


def receive(engine: Engine, parcel: Parcel) -> int:
    """Keep what a parcel brings; returns the watermark of its source. Told twice, it is kept once.

    What cannot be a letter is kept as a file (``unfiled``) and counts as received. StoreUnavailableError:
    the database is away, or the key that entries are sealed to; nothing, or a part, is kept, and telling
    all of it again is safe. DiskUnavailableError: all is kept but what needs a file, and has no receipt yet.
    """
    told = _sort(engine, parcel)
    settling.settle_many(engine, [each.attempt for each in told.outcomes if each.error is None])
    for outcome in told.outcomes:
        if outcome.error is not None:
            returned.record_failure(engine, outcome.attempt, outcome.error, outcome.cause)
    watermark = 0

    def note(connection: sa.Connection) -> None:
        nonlocal watermark
        watermark = sources.note(
            connection,
            parcel.source,
            after=parcel.after,
            numbers=as_ranges(number for number, _ in parcel.entries),
            lost=parcel.lost,
            host=parcel.host,
            now=engine.clock(),
        )

    _keep(engine, parcel.source, told, note)
    if parcel.lost:
        logger.error("spool.damaged", source=parcel.source, host=parcel.host, lost=_spelt(parcel.lost))
    _publish(engine, parcel.source, watermark)
    return watermark


def _keep(engine: Engine, source: str, told: _Sorted, note: Callable[[sa.Connection], None]) -> None:
    """One that the database does not take, for whatever reason, must not hold up its source for ever."""
    also = None if told.full else note
    try:
        capturing.capture_many(engine, [captured for *_, captured in told.captures], also=also)
    except StoreUnavailableError:
        raise
    except Exception as error:
        logger.warning("spool.parcel_taken_apart", error=repr(error), count=len(told.captures))
        _keep_each(engine, source, told)
        if told.full is None:
            capturing.capture_many(engine, (), also=note)
    if told.full is not None:
        raise told.full


def _keep_each(engine: Engine, source: str, told: _Sorted) -> None:
    for number, entry, captured in told.captures:
        try:
            capturing.capture(engine, captured)
        except StoreUnavailableError:
            raise
        except Exception as error:
            _set_aside(engine, source, number, entry, error, told)


def _set_aside(
    engine: Engine, source: str, number: int, entry: bytes, error: Exception, told: _Sorted
) -> None:
    """As it came: sealed, if it was. Where the disk is full the others are kept first."""
    try:
        unfiled.write(engine.settings.home, f"{source}:{number}", b64encode(entry).decode("ascii"), error)
    except DiskUnavailableError as full:
        told.full = full


def _sort(engine: Engine, parcel: Parcel) -> _Sorted:
    found = _Sorted([], [])
    for number, entry in parcel.entries:
        try:
            told = spool_entries.from_bytes(spool_sealing.opened(spool_keys(engine), entry))
            if isinstance(told, Outcome):
                home.parse_reference(told.attempt)
                found.outcomes.append(told)
            else:
                found.captures.append((number, entry, _remembered(engine, capturing.checked(engine, told))))
        except StoreUnavailableError:
            raise
        except RouteError as error:  # a header that names no attempt: nothing waits for its outcome
            logger.warning("letter.outcome_refused", error=str(error))
        except Exception as error:
            _set_aside(engine, parcel.source, number, entry, error, found)
    return found


def _remembered(engine: Engine, captured: Capture) -> Capture:
    """It waits for a person, if it is so old that its letter may have been settled, purged and forgotten."""
    days = engine.settings.dead_letters.tombstone_days
    if captured.quarantine or captured.failed_at >= engine.clock() - timedelta(days=days):
        return captured
    why = f"failed over {days} days ago (tombstone_days): it may have been settled already, and forgotten"
    return replace(captured, quarantine=why)


def _publish(engine: Engine, source: str, watermark: int) -> None:
    try:
        engine.redis.set(receipt_key(source), watermark, ex=RECEIPT_TTL)
    except RedisError as error:
        # The app sends these entries once more later, and is told then.
        logger.warning("spool.receipt_not_published", source=source, error=str(error))


def _spelt(ranges: Sequence[Range]) -> str:
    return ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in ranges[:20])

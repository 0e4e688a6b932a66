"""Telling what is to be told: each channel by itself, in order, at least once.

A channel that does not answer is tried again with growing pauses, for good: what waits is delayed, and
nothing is lost. Others do not wait for it. A notice is leased while it is sent; when its worker dies, another
sends it.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog

from regrow import counters
from regrow.alerts import channels
from regrow.alerts.store import Alerts, Taken
from regrow.engine import Engine
from regrow.ids import uuid7
from regrow.settings.alerts import ChannelSettings
from regrow.tallies import field_of

logger = structlog.get_logger(__name__)

_LANES = 32
"""Channels that are told at the same time; further ones take their turn, those that wait longest first."""
_FIRST_PAUSE = 15.0


def deliver(engine: Engine, *, seconds: float = 10.0) -> dict[str, int]:
    """Send what is due, for about so many seconds; how many were sent, put off and refused."""
    store, until = Alerts(engine.database), time.monotonic() + seconds
    waiting = store.channels()
    counts: Counter[str] = Counter()
    if not waiting:
        return dict.fromkeys(("sent", "put_off", "refused"), 0)
    with ThreadPoolExecutor(min(_LANES, len(waiting)), thread_name_prefix="notices") as pool:
        for found in pool.map(lambda channel: _lane(engine, store, channel, until), waiting):
            counts.update(found)
    return {name: counts[name] for name in ("sent", "put_off", "refused")}


def pause_after(attempts: int, longest: float) -> float:
    """Seconds until the next try: 15, 30, 60 and so on."""
    return min(_FIRST_PAUSE * 2.0 ** min(attempts - 1, 30), longest)


def _lane(engine: Engine, store: Alerts, channel: str, until: float) -> Counter[str]:
    counts: Counter[str] = Counter()
    chosen = engine.settings.alerts.channels.get(channel)
    if chosen is not None and not chosen.enabled:
        return counts
    folded = store.fold(channel, engine.settings.alerts.fold_above, engine.clock(), uuid7)
    if folded:
        logger.warning("alert.folded", channel=channel, notices=folded)
        labels = {"channel": channel, "outcome": "folded"}
        counters.add_up(engine, {field_of("alert_notices_total", labels): folded})
    while time.monotonic() < until:
        now = engine.clock()
        lease = now + timedelta(seconds=engine.settings.alerts.lease)
        taken = store.take(channel, now, lease, str(uuid.uuid4()))
        if taken is None:
            break
        outcome = _sent(engine, store, taken)
        counts[outcome] += 1
        counters.add(engine, "alert_notices_total", {"channel": channel, "outcome": outcome})
        if outcome == "put_off":
            break
    return counts


def _declared(engine: Engine, channel: str) -> ChannelSettings:
    found = engine.settings.alerts.channels.get(channel)
    if found is None:
        raise channels.ChannelAwayError(f"no channel {channel} is declared any more")
    return found


def _sent(engine: Engine, store: Alerts, taken: Taken) -> str:
    """Send one, and write down what became of it."""
    notice, settings = taken.notice, engine.settings.alerts
    try:
        channels.send(_declared(engine, notice.channel), notice, engine.clock())
    except channels.NoticeRefusedError as error:
        logger.warning("alert.refused", channel=notice.channel, alert=notice.alert, error=str(error))
        store.settle(taken, "refused", engine.clock(), str(error))
        return "refused"
    except Exception as error:
        # Also a defect of a channel, or of what it stands on: it must delay nobody else, and lose nothing.
        said = str(error) if isinstance(error, channels.ChannelAwayError) else type(error).__name__
        pause = pause_after(taken.attempts, settings.longest_pause)
        logger.warning("alert.not_told", channel=notice.channel, attempt=taken.attempts, error=said)
        store.put_off(taken, engine.clock() + timedelta(seconds=pause), said)
        return "put_off"
    store.settle(taken, "sent", engine.clock())
    return "sent"

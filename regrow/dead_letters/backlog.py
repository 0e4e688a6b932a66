"""A backlog is worked off by one line of runs, each of which sends the next; the schedule begins the lines.

A run ends when its budget is used, so that a worker can stop and every run is recorded. Were the next one
left to the schedule, a long backlog would rest most of the time; were each run to send another whatever
others do, the lines would multiply with every tick.
"""

from __future__ import annotations

import math
import uuid

import structlog
from redis.exceptions import RedisError

from regrow.engine import Engine
from regrow.errors import StoreUnavailableError

logger = structlog.get_logger(__name__)

_TASK, _QUEUE = "regrow.dead_letters.process_dead_letter_queue_batch", "regrow.redrive"
_KEY = "regrow:redrive:line"


def go_on(engine: Engine, batch_size: int | None, line: str | None) -> bool:
    """Send the next run of ``line`` (None: begin one). False: another line is at work, or it was not sent.

    A line that dies is forgotten when two more runs would have ended.
    """
    mine = line or uuid.uuid4().hex
    lasts = math.ceil(2 * engine.settings.dead_letters.drain_budget)
    try:
        if not engine.redis.set(_KEY, mine, nx=True, ex=lasts):
            if engine.redis.get(_KEY) != mine:
                return False
            engine.redis.expire(_KEY, lasts)
        engine.sender.send(_TASK, {"batch_size": batch_size, "line": mine}, queue=_QUEUE)
    except (RedisError, StoreUnavailableError) as error:
        logger.warning("redrive.waits_for_its_schedule", error=str(error))
        return False
    return True

"""Marks of settled letters in Redis, by which an app knows a copy that nobody needs to run any more.

A redriven message may be in its queue twice: its worker died, or nothing was heard of it until its deadline.
The first copy that is run settles the letter; the others are skipped before they run. A mark is a favour,
never the truth: without Redis, a copy runs, and its task is one that may run again.

Only what an outcome has settled is marked. A letter that the broker's word settles (``confirm = "publish"``)
is settled while its message still waits to be run. And a copy that is merely superseded runs: where a queue
is longer than the deadline, the first copy to be reached is the one that helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from regrow.log_events import EventLog

log = EventLog(__name__)

KEPT = 86_400
"""Seconds; copies that are older run."""
REST = 10.0
"""Seconds for which a Redis that failed is not asked again: whoever asks holds up others."""


# One command for all of them: they share a slot, and two hundred commands cost more than what they tell.
_SET_ALL = "for _, key in ipairs(KEYS) do redis.call('SET', key, 1, 'EX', ARGV[1]) end"


def mark_key(letter_id: str) -> str:
    return f"regrow:{{settled}}:{letter_id}"


class SettledMarks:
    """Writes and reads marks, and leaves a Redis that fails alone for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rests_until = 0.0

    def write(self, client: Any, letter_ids: Sequence[str]) -> None:
        keys = [mark_key(letter_id) for letter_id in letter_ids]
        if keys:
            self._try(lambda: client.eval(_SET_ALL, len(keys), *keys, KEPT))

    def has(self, client: Any, letter_id: str) -> bool:
        """Whether the letter is known to be settled; False when that cannot be learned."""
        return bool(self._try(lambda: client.get(mark_key(letter_id))))

    def _try(self, ask: Callable[[], object]) -> object:
        if self._clock() < self._rests_until:
            return None
        try:
            return ask()
        except (RedisError, OSError) as error:
            self._rests_until = self._clock() + REST
            log.warning("letter.marks_unavailable", error=str(error), rest=REST)
            return None

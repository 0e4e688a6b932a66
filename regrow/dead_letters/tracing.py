"""Where redriven messages are that nobody answered for: their marks in Redis, what waits in their queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from regrow.dead_letters import routes, second_copies, started_marks
from regrow.dead_letters.home import attempt_reference
from regrow.dead_letters.route import Place
from regrow.dead_letters.second_copies import Hold, QueueLook, Traces
from regrow.dead_letters.store import Letter
from regrow.engine import Engine
from regrow.errors import RouteError, StoreUnavailableError

logger = structlog.get_logger(__name__)


class Tracing:
    """Of one run, in which each queue is looked at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queues: dict[Place, QueueLook | None] = {}

    def holds(self, late: Sequence[tuple[Letter, datetime]]) -> Mapping[str, Hold | None]:
        """Token -> why its letter, sent at that time, is waited for; None: it may be sent again."""
        marks = started_marks.read(self._engine.redis, [_reference(letter) for letter, _ in late])
        found: dict[str, Hold | None] = {}
        for letter, sent in late:
            try:
                route = routes.find(self._engine, letter)
            except RouteError:  # who sends it again will say so
                found[letter.lease_token or ""] = None
                continue
            if route.runs_here:  # its deadline is the longest that it can take
                found[letter.lease_token or ""] = None
                continue
            mark = (marks or {}).get(_reference(letter))
            traces = Traces(marks is not None, mark, self._look(route.place))
            hold = second_copies.hold_of(traces, sent)
            found[letter.lease_token or ""] = hold if self._waits(hold, sent) else None
        return found

    def _waits(self, hold: Hold | None, sent: datetime) -> bool:
        if hold is None or hold.certain:
            return hold is not None
        chosen = self._engine.settings.dead_letters
        patient_until = sent + timedelta(seconds=chosen.outcome_deadline + chosen.copy_patience)
        return self._engine.clock() < patient_until

    def _look(self, place: Place | None) -> QueueLook | None:
        if place is None:
            return None
        if place not in self._queues:
            self._queues[place] = self._ask(place)
        return self._queues[place]

    def _ask(self, place: Place) -> QueueLook | None:
        try:
            look: QueueLook = self._engine.sender_on(place.broker).look(place.queue)
        except (StoreUnavailableError, RouteError) as error:
            logger.warning("redrive.queue_unseen", queue=place.queue, broker=place.broker, error=str(error))
            return None
        return look


def _reference(letter: Letter) -> str:
    return attempt_reference(letter.id, letter.lease_token or "")

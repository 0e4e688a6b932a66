"""What time of a check is set aside: its maintenance windows, and when nobody was asked to look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from regrow.engine import Engine
from regrow.health import maintenance
from regrow.health.rules import Declared, declare
from regrow.health.windows import Window
from regrow.slo.ledger import Mask, State


class Masks:
    """For one run or reading: windows are read once for each stretch of time that is asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._windows: dict[tuple[datetime, datetime], list[Window]] = {}

    def of(
        self,
        name: str,
        start: datetime,
        end: datetime,
        first: datetime | None,
        pauses: Sequence[tuple[datetime, datetime | None]],
    ) -> list[Mask]:
        """The masks of one check over ``[start, end)``.

        A window counts from its announcement on: what was down before was down.
        """
        windows = self._between(start, end)
        check = self._declared(name)
        found = [
            Mask(max(w.starts, w.announced or w.starts), w.ends, State.MAINTENANCE)
            for w in windows
            if w.scope.holds_for(check, w.name)
        ]
        found += [Mask(begins, ends or end, State.PAUSED) for begins, ends in pauses]
        if first is not None and first > start:
            found.append(Mask(start, first, State.PAUSED))
        return [mask for mask in found if mask.start < end and mask.end > start]

    def _between(self, start: datetime, end: datetime) -> list[Window]:
        if (start, end) not in self._windows:
            self._windows[start, end] = maintenance.between(self._engine, start, end)
        return self._windows[start, end]

    def _declared(self, name: str) -> Declared:
        check = self._engine.settings.health.checks.get(name)
        if check is None:
            return Declared(name, "", 60.0, 0.0)
        return declare(name, check, self._engine.settings.health.interval)

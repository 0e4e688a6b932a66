"""A scripted history on real tables: checks that are probed on a clock of the test's own, as the sweep does it."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from regrow.database.tables import breaker_transitions, recovery_events
from regrow.engine import Engine
from regrow.health import maintenance
from regrow.health import service as health
from regrow.health.keeping import keep
from regrow.health.rules import Result
from regrow.health.windows import covering
from regrow.incidents import service
from regrow.incidents.model import name_of

NOON = datetime.fromisoformat("2026-03-02T12:00:00+00:00")


class Clock:
    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class History:
    """``down`` names what fails now; ``step`` lets time go by, with a sweep and a look every ``every`` s."""

    def __init__(self, engine: Engine, every: float = 30.0) -> None:
        self.engine, self.every = engine, every
        self.clock: Clock = engine.clock
        self.down: dict[str, str] = {}
        self.silent = False
        self.mute: set[str] = set()
        self.asleep = False
        self.epochs: dict[str, int] = {}

    @property
    def now(self) -> datetime:
        return self.clock.now

    def look(self) -> None:
        service.follow(self.engine)

    def sweep(self) -> None:
        graph = health.graph_of(self.engine.settings)
        windows = maintenance.around(self.engine, self.now)
        results = [
            Result(
                name,
                self.down.get(name, "healthy"),
                f"was {self.down.get(name, 'healthy')}",
                0.01,
                self.now,
                check.interval,
                maintenance=covering(windows, check, self.now),
            )
            for name, check in graph.items()
            if name not in self.mute
        ]
        keep(self.engine, results, graph)

    def step(self, seconds: float) -> None:
        until = self.now + timedelta(seconds=seconds)
        while self.now < until:
            self.clock.now += timedelta(seconds=self.every)
            if not self.silent:
                self.sweep()
            if not self.asleep:
                self.look()

    def fail(self, *names: str, status: str = "unhealthy") -> None:
        self.down |= dict.fromkeys(names, status)

    def mend(self, *names: str) -> None:
        for name in names or tuple(self.down):
            self.down.pop(name)

    def breaker(self, name: str, to: str, *, actor: str | None = None) -> None:
        """A transition, as the monitor of breakers writes it down."""
        epoch = self.epochs[name] = self.epochs.get(name, 0) + 1
        row = {
            "breaker": name,
            "epoch": epoch,
            "from_state": "closed" if to == "open" else "open",
            "to_state": to,
            "reason": f"went {to}",
            "actor": actor,
            "at": self.now,
            "details": {},
        }
        self._insert(breaker_transitions, row)

    def recovery(self, service_name: str, event: str) -> None:
        row = {
            "at": self.now,
            "subject": service_name,
            "event": event,
            "severity": "high",
            "message": f"{event} after 3 attempts",
            "data": {},
        }
        self._insert(recovery_events, row)

    def _insert(self, table: sa.Table, row: dict) -> None:
        self.engine.database.run(lambda connection: connection.execute(sa.insert(table).values(row)))

    def incidents(self) -> list[tuple[str, str, str, int]]:
        """Oldest first: root, kind, status, how many are in it."""
        found = service.listed(self.engine)
        count = {one.id: 0 for one in found}
        for member in service.members(self.engine, list(count)):
            count[member.incident] += 1
        return [(name_of(one.root), one.kind, one.status, count[one.id]) for one in reversed(found)]

    def told(self, incident_id: str) -> list[str]:
        return [event.kind for event in service.dossier(self.engine, incident_id).timeline]

"""A report with something in each of its sections, from facts made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from regrow.alerts.periods import Acknowledged, Lasted
from regrow.capacity.rules import Trend
from regrow.capacity.service import Forecast
from regrow.counted import Counted
from regrow.incidents.model import Incident
from regrow.latency_buckets import bucket_of
from regrow.reports import model
from regrow.reports.measures import POINTS, Check, Measures, Promise
from regrow.reports.rules import Transition
from regrow.reports.sources import Facts, Job, Resource, ServiceRecovery, Snapshot
from regrow.requests.reading import Throughput, Window
from regrow.slo import ledger, objectives
from regrow.slo.ledger import Ledger, Sample
from regrow.slo.objectives import Objective
from regrow.slo.requests import Measured

START = datetime(2026, 3, 1, 11, tzinfo=UTC)
END = START + timedelta(hours=1)
PARTS = 30
EDGES = tuple(START + (END - START) * n / PARTS for n in range(PARTS + 1))
WORDS = {"u": "healthy", "g": "degraded", "d": "unhealthy", "x": "unknown"}
DAY = timedelta(days=1)


def check(name: str, states: str = "u", milliseconds: float = 20.0) -> Check:
    """A check with a probe a minute; ``states``: of equal parts of the hour."""
    samples = [
        Sample(START + timedelta(minutes=minute), WORDS[states[minute * len(states) // 60]], 60.0)
        for minute in range(60)
    ]
    cut = ledger.spans(samples, START, END)
    return Check(
        name=name,
        kind="redis",
        required=True,
        account=ledger.account(cut, samples, START, END),
        outages=tuple(ledger.outages(cut)),
        states=ledger.strip_over(cut, EDGES),
        latency={bucket_of(milliseconds / 1000 * (1 + n)): 40 - 12 * n for n in range(4)},
        last_message=name,
    )


def promise(name: str, down: timedelta, target: float = 0.999) -> Promise:
    """Over 30 days, of which the last hours were down."""
    window = 30 * DAY
    account = Ledger(up=window - down, down=down, probes=43_200, failures=round(down / timedelta(minutes=1)))
    hour = Ledger(up=timedelta(minutes=58), down=timedelta(minutes=2), probes=60)
    standing = objectives.of_availability(
        Objective(name, "availability", target, window, checks=(name,)),
        END,
        account,
        dict.fromkeys(objectives.BURNS, hour),
    )
    assert standing.budget is not None
    gone = down / standing.budget.total
    return Promise(standing, tuple(1 - gone * (n / POINTS) ** 2 for n in range(POINTS + 1)))


def of_requests(name: str) -> Promise:
    objective = Objective(name, "latency", 0.95, DAY, service="shop", limit=0.5)
    return Promise(objectives.of_requests(objective, END, Measured(0.62, 0.5, False, 0.98, 90_000)))


def incidents(name: str) -> tuple[Incident, ...]:
    began = START + timedelta(minutes=20)
    detected = began + timedelta(seconds=90)
    over = Incident(
        "i-1",
        f"check:{name}",
        "down",
        "high",
        "closed",
        f"{name} is down",
        began,
        detected,
        detected + timedelta(minutes=4),
        "ada",
        began + timedelta(minutes=18),
        None,
        f"{name} was full",
    )
    still = Incident("i-2", "check:mail", "down", "medium", "open", f"{name}: mail", detected, detected)
    return (still, over)


def alerts(name: str) -> tuple[Lasted, ...]:
    """One that somebody took, and one that nobody could be told of."""
    began = START + timedelta(minutes=22)
    over = Lasted("a-1", name, f"check:{name}", "high", began, began + timedelta(minutes=15),
                  Acknowledged(began + timedelta(minutes=3), name), 1, False, ())  # fmt: skip
    still = Lasted("a-2", "dead_letter_too_old", "letters", "medium", END - timedelta(minutes=9), None, None, 0,
                   True, (name,))  # fmt: skip
    return (still, over)


def counted(name: str) -> Counted:
    told = {"retry_attempts_total": {name: 38, "mail": 2}, "retry_exhausted_total": {name: 4}}
    return Counted(0.95, {**told, "fallback_usage_total": {name: 17}})


def requests(name: str) -> Window:
    hour = Throughput(START, 21_600, 57)
    return Window(name, START, END, 21_600, 30, 57, {bucket_of(0.08): 20_000, bucket_of(0.9): 1_600}, (hour,))


def measures(name: str, states: str = "u") -> Measures:
    return Measures(
        checks=(check(name, states),),
        promises=(promise(name, timedelta(minutes=20)), of_requests(f"{name} fast")),
        incidents=incidents(name),
        requests=(requests(name),),
    )


def facts(name: str, found: Measures) -> Facts:
    return Facts(
        start=START,
        end=END,
        edges=EDGES,
        measures=found,
        resources=(Resource(name, "disk", 40.0, 60.0, name),),
        breakers={name: (Transition(name, START + timedelta(minutes=1), "closed", name),)},
        jobs=(Job(name, {"succeeded": 2, name: 1}, 1.5, START, name, name), Job("prune_history")),
        removed={name: {name: 3}},
        letters={"captured": 4, name: 1},
        levels={name: timedelta(minutes=20), "severe": timedelta(minutes=40), "critical": timedelta()},
        recoveries=(ServiceRecovery(name, {"failed": 2, "succeeded": 1, name: 1}, 1, (4.0, 9.0), 1),),
        alerts=alerts(name),
        counted=counted(name),
        left_out={},
    )


def snapshot(name: str) -> Snapshot:
    full = Trend("disk", name, "%", "rising", name, 40, 3.0, 81.0, 4.0, 3.0, 5.0, 100.0, 410_000.0, 3e5, 5e5)
    return Snapshot(END, {"pending": 2, name: 1}, START, Forecast(END, 9, (full,)))


def report(name: str = "redis", states: str = "u") -> dict[str, Any]:
    return model.build("hourly", facts(name, measures(name, states)), snapshot(name), target=0.999)


def shown() -> dict[str, Any]:
    """What the pictures in the documentation show."""
    told: Sequence[Check] = (
        check("database", "uuuuuuuuuu", 9),
        check("payments", "uuuuddduuuuuuuu", 140),
        check("search", "uuuuuuuuugggguuu", 60),
        check("mail", "uuuuuxxxuuuuuuuuuuuuuu", 32),
    )
    found = Measures(
        checks=tuple(told),
        promises=(
            promise("database", timedelta(minutes=3)),
            promise("payments", timedelta(minutes=52)),
            promise("search", timedelta(minutes=14)),
            of_requests("shop fast"),
        ),
        incidents=incidents("payments"),
        requests=(requests("shop"),),
    )
    told_of = Facts(
        start=START,
        end=END,
        edges=EDGES,
        measures=found,
        resources=(Resource("disk", "disk", 81.2, 81.4, "81.2% of /var used"),),
        breakers={"payments": (Transition("payments", START + timedelta(minutes=17), "closed", "open"),)},
        jobs=(
            Job("health_check_monitoring", {"succeeded": 720}, 0.4, END - timedelta(seconds=5), "succeeded"),
        ),
        removed={"cleanup_temp_files": {"removed": 12}},
        letters={"captured": 41, "resolved": 38},
        levels={"normal": timedelta(minutes=45), "moderate": timedelta(minutes=15)},
        recoveries=(ServiceRecovery("payments", {"failed": 1, "succeeded": 1}, 1, (720.0,)),),
        alerts=alerts("incident"),
        counted=counted("payments"),
        left_out={},
    )
    return model.build("hourly", told_of, snapshot("disk"), target=0.999)

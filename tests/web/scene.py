"""A scene to look at: what a small shop's Regrow might know on an ordinary morning, with a few worries.

Written through the services that workers use, so that it cannot drift from what they write.
``python -m tests.web.picture`` takes the picture in docs/images of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from regrow.alerts.model import Alert, Reason, Silence
from regrow.alerts.rules import Decided
from regrow.alerts.store import Act, Alerts
from regrow.breakers.history import monitor
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import BreakerConfig, Report
from regrow.database.tables import dead_letters, incident_members, incidents, job_runs
from regrow.dead_letters import captured, service
from regrow.engine import Engine
from regrow.health.checks import heartbeats
from regrow.health.rules import Result
from regrow.health.store import KeptResults, LiveResults
from regrow.incidents.model import Event, Incident, Member
from regrow.incidents.store import add_events
from regrow.reports.service import generate

KEY = "a-key-for-the-scene-of-32-letters"

CHECKS = """
[health.checks.shop]
kind = "http"
url = "https://shop.example/health"
required = true

[health.checks.payments]
kind = "http"
url = "https://payments.example/health"

[health.checks.mail]
kind = "tcp"
host = "mail.example"
port = 587

[health.checks.search]
kind = "http"
url = "https://search.example/health"

[[temp_files.roots]]
path = "/tmp/regrow-scene"
max_age = 86400
"""

# name: (seconds ago, milliseconds, status, what it saw)
SEEN = {
    "redis": (21, 0.8, "healthy", "answers; 14.2 MB used, 23 clients"),
    "database": (21, 2.1, "healthy", "answers; MySQL 8.4.6"),
    "broker": (21, 1.9, "healthy", "12 messages in 3 queues, 4 of them in hand"),
    "celery-worker": (21, 1.2, "healthy", "2 workers, last heartbeat 2 s ago"),
    "celery-beat": (21, 0.9, "healthy", "ticked 4 s ago"),
    "disk": (21, 0.1, "healthy", "61% of 80.0 GB used"),
    "memory": (21, 0.1, "healthy", "48% of 4.0 GiB used"),
    "cpu": (21, 1003.0, "degraded", "74% busy over 1 s; warning from 70%"),
    "temp-files": (21, 6.4, "healthy", "38.2 MB in 412 files"),
    "shop": (20, 48.0, "healthy", "200 in 48 ms"),
    "payments": (20, 5000.0, "unhealthy", "no answer within 5 s"),
    "mail": (20, 12.3, "healthy", "connected to mail.example:587"),
    "search": (1312, 31.0, "healthy", "200 in 31 ms"),
}

RUNS: Mapping[str, tuple[int, float, str, Mapping[str, Any]]] = {
    "health_check_monitoring": (
        21, 5.04, "succeeded",
        {"checks": 13, "ran": 12, "healthy": 10, "degraded": 1, "unhealthy": 1, "unknown": 0, "changed": ["payments"],
         "hanging": 0, "postponed": [], "not_written": {}},
    ),
    "monitor_circuit_breakers": (
        64, 0.012, "succeeded",
        {"breakers": 3, "closed": 2, "open": 1, "half_open": 0, "overridden": 0, "written": 1, "moved_on": 0,
         "forgotten": 0, "gaps": 0, "not_closed": ["payments"]},
    ),
    "process_dead_letter_queue_batch": (
        143, 0.31, "succeeded",
        {"returned": 0, "leased": 20, "dispatched": 12, "resolved": 0, "held": 8, "released": 0, "quarantined": 0},
    ),
    "cleanup_temp_files": (
        1830, 0.42, "succeeded",
        {"dry_run": False, "scanned": 655, "removed": 243, "freed_bytes": 187_400_000, "errors": 0, "finished": True},
    ),
    "generate_reliability_report": (1830, 0.19, "succeeded", {}),
    "forecast_capacity": (
        400, 0.08, "succeeded",
        {"looked_at": 9, "left_out": False, "fallbacks": {}, "trends": [
            {"kind": "disk", "subject": "disk", "unit": "%", "direction": "rising", "why": "rising over 24 hours",
             "points": 96, "days": 0.99, "now": 61.2, "per_day": 9.7, "low": 9.1, "high": 10.4, "limit": 100.0,
             "full_in": 345600.0, "full_earliest": 322000.0, "full_latest": 368000.0}]},
    ),
    "cleanup_old_dlq_messages": (30600, 0.05, "succeeded", {"purged": 38, "older_than_days": 7}),
}  # fmt: skip


def settings_file(folder: Path) -> Path:
    file = folder / "scene.toml"
    file.write_text(CHECKS)
    return file


def paint(engine: Engine) -> None:
    """Fill migrated, empty stores."""
    now = engine.clock()
    _paint_checks(engine, now)
    _paint_breakers(engine)
    _paint_letters(engine, now)
    Alerts(engine.database).look(now, lambda _before, _silences: Decided())  # somebody looks with the rules
    for hours in (3, 2, 1):
        report = generate(
            engine, until=now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
        )
    _paint_runs(engine, now, report.headline)
    _paint_incidents(engine, now)


def _paint_checks(engine: Engine, now: datetime) -> None:
    interval = engine.settings.health.interval
    kept, last = [], []
    for name, (age, took, status, message) in SEEN.items():
        for step in range(240):
            at = now - timedelta(seconds=age + 60 * step)
            shown = (status, message) if step < 4 or name != "payments" else ("healthy", "200 in 180 ms")
            kept.append(Result(name, shown[0], shown[1], took / 1000, at, max(interval, 60.0), {}))
        last.append(Result(name, status, message, took / 1000, now - timedelta(seconds=age), interval, {}))
    told = {"at": now.timestamp(), "pid": 7, "node": "beat@beat-1", "state": "running"}
    heartbeats.keep(engine.redis, "beat", "beat-1-7", told, now.timestamp())
    KeptResults(engine.database).write(kept)
    LiveResults(engine.redis, 100, 86400).write(last)


def _paint_breakers(engine: Engine) -> None:
    store = RedisStore(engine.redis)
    for name, good, bad in (("shipping", 96, 2), ("payments", 3, 9), ("geocoder", 41, 0)):
        config = BreakerConfig(recovery_timeout=300)
        store.apply(name, config, Report(epoch=0, successes=good, failures=0, run=0))
        store.apply(name, config, Report(epoch=0, successes=0, failures=bad, run=bad))
    monitor(engine)


def _paint_letters(engine: Engine, now: datetime) -> None:
    told = [
        captured.of_message(
            {"task": task, "args": [1000 + number]},
            error={"class": error, "message": "told by the scene"},
            service=name,
            failed_at=now - timedelta(minutes=3 * number + 2),
            event_id=f"scene-{task}-{number}",
        )
        for task, name, error, many in (
            ("shop.payments.charge", "payments", "TimeoutError", 14),
            ("shop.mail.confirm_order", "mail", "SMTPServerDisconnected", 5),
            ("shop.search.index", "search", "ValidationError", 3),
        )
        for number in range(many)
    ]
    service.capture_many(engine, told)
    with engine.database.transaction() as connection:
        table = dead_letters.c
        settle = sa.update(dead_letters).values(state="resolved", settled_at=now - timedelta(minutes=1))
        connection.execute(settle.where(table.service == "mail"))
        park = sa.update(dead_letters).values(state="quarantined", reason="failed after 5 of 5 redrives")
        connection.execute(park.where(table.service == "search"))
    service.correct_ledger(engine, actor="scene", reason="settled past the books, for the picture")


def _paint_incidents(engine: Engine, now: datetime) -> None:
    """Payments is down, which hangs shipping; mail was down in the night; a letter waits for too long."""
    down, night = now - timedelta(minutes=4), now - timedelta(hours=7)
    told = now - timedelta(minutes=3)
    mail = Incident("incident-2", "check:mail", "down", "medium", "closed", "mail is down", night,
                    night + timedelta(seconds=60), night + timedelta(minutes=2), "ada",
                    night + timedelta(minutes=11), None, "the provider's certificate had run out")  # fmt: skip
    payments = Incident(
        "incident-1", "check:payments", "down", "high", "open", "payments is down", down, told
    )
    events = [
        Event("incident-1", down, "began", "check:1", "check:payments", "no answer within 5 s"),
        Event("incident-1", told, "joined", "breaker:1", "breaker:payments", "went open"),
        Event(
            "incident-1",
            told + timedelta(seconds=20),
            "note",
            "act:1",
            "",
            "the provider looks into it",
            "ada",
        ),
    ]
    members = [
        Member("incident-1", "check:payments", "high", "down", down, None, down),
        Member("incident-1", "breaker:payments", "medium", "down", told, "check:payments", told),
    ]
    with engine.database.transaction() as connection:
        connection.execute(sa.insert(incidents), [asdict(one) for one in (mail, payments)])
        connection.execute(sa.insert(incident_members), [asdict(one) for one in members])
        add_events(connection, events)
    _paint_alerts(engine, now, told)


def _paint_alerts(engine: Engine, now: datetime, told: datetime) -> None:
    fired = [
        Alert(f"alert-{number}", rule, subject, severity, "firing", message, told, now, f"rule:{rule}", incident,
              told, paged_at=told, notified_at=told, episode=1, step=0, reached=reached, held_by=held)
        for number, (rule, subject, severity, message, incident, reached, held) in enumerate((
            ("incident", "check:payments", "high", "payments is down", "incident-1", ("log", "slack"), None),
            ("letter_too_old", "letters", "medium", "the oldest letter waits for 41 min", None, ("log",), None),
            ("breaker_open", "breaker:payments", "medium", "open for 5 min", "incident-1", (),
             "grouped: told with incident check:payments"),
        ))
    ]  # fmt: skip
    decided = Decided({one.key: one for one in fired}, [], {
        one.key: [Reason("observed", True, one.message), Reason("held for", True, "so for long enough")]
        for one in fired
    })  # fmt: skip
    Alerts(engine.database).look(now, lambda _before, _silences: decided)
    silence = Silence(
        "silence-1", now, now + timedelta(hours=2), "disk_full", "", None, "ada", "a bigger disk comes"
    )
    Alerts(engine.database).silence(silence, Act("ada", "alert.silenced", silence.id, silence.reason, now))


def _paint_runs(engine: Engine, now: datetime, headline: str) -> None:
    rows = [
        {
            "job": job,
            "started_at": now - timedelta(seconds=age),
            "duration": took,
            "outcome": outcome,
            "summary": summary or {"headline": headline, "new": 1, "amended": 0},
            "host": "worker-1",
        }
        for job, (age, took, outcome, summary) in RUNS.items()
    ]
    with engine.database.transaction() as connection:
        connection.execute(sa.insert(job_runs), rows)

"""Alerts as tasks, pages, reports and the command line ask for them, and what people do to them.

``tick`` is the job: look, decide, keep what is to be told, tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from regrow.alerts import lasting
from regrow.alerts.delivering import deliver
from regrow.alerts.model import (
    ANY,
    Alert,
    Around,
    Notice,
    Policy,
    Reason,
    Route,
    Silence,
    Status,
    Step,
)
from regrow.alerts.periods import Lasted
from regrow.alerts.rules import Decided, Key, decide
from regrow.alerts.signals import gather
from regrow.alerts.store import Alerts, Kept, Sent
from regrow.audit import Act
from regrow.engine import Engine
from regrow.errors import AlertNotFoundError, AlertRefusedError
from regrow.health import maintenance
from regrow.ids import uuid7
from regrow.incidents import service as incidents
from regrow.incidents.following import graph_of, planned_of
from regrow.incidents.model import Severity
from regrow.incidents.rules import Book
from regrow.settings.alerts import AlertSettings

logger = structlog.get_logger(__name__)

__all__ = [
    "Why",
    "acknowledge",
    "deliver",
    "evaluate",
    "listed",
    "notices",
    "of_period",
    "policy_of",
    "prune",
    "send_test",
    "silence",
    "silences",
    "tick",
    "unsilence",
    "waiting",
    "why",
]


@dataclass(frozen=True)
class Why:
    """Why somebody was told of a subject, or not: each step of the look, and what was sent."""

    rule: str
    subject: str
    alert: Alert | None
    reasons: tuple[Reason, ...]
    notices: tuple[Sent, ...]
    looked_at: datetime | None


def tick(engine: Engine, *, seconds: float = 10.0) -> dict[str, Any]:
    """Look and tell, the telling for about so many seconds; what came of it."""
    return {**evaluate(engine), **deliver(engine, seconds=seconds)}


def evaluate(engine: Engine) -> dict[str, int]:
    """Look with every rule, decide, keep what is to be told. StoreUnavailableError without the database."""
    if not engine.settings.alerts.enabled:
        return {"firing": 0, "pending": 0, "notices": 0}
    now = engine.clock()
    signals, around = gather(engine, now), _around(engine, now)
    policy = policy_of(engine.settings.alerts)

    def rule(alerts: Mapping[Key, Alert], standing: tuple[Silence, ...]) -> Decided:
        return decide(signals, alerts, replace(around, silences=standing), policy, now, uuid7)

    decided = Alerts(engine.database).look(now, rule)
    if decided is None:
        return {"firing": 0, "pending": 0, "notices": 0}
    for notice in decided.notices:
        logger.info("alert.decided", kind=notice.kind, alert=notice.alert, channel=notice.channel)
    statuses = [alert.status for alert in decided.alerts.values()]
    return {
        "firing": statuses.count("firing"),
        "pending": statuses.count("pending"),
        "notices": len(decided.notices),
    }


def why(engine: Engine, name: str) -> list[Why]:
    """Every step for what is named: a rule, a subject, a part of its name, or the id of an alert.

    Looked at now, and nothing is changed by it.
    """
    now, store = engine.clock(), Alerts(engine.database)
    alerts, standing, at = store.standing(now)
    around = replace(_around(engine, now), silences=standing)
    signals = gather(engine, now)
    decided = decide(signals, alerts, around, policy_of(engine.settings.alerts), now, uuid7)
    keys = [key for key in decided.reasons if _is_named(name, key, alerts.get(key))]
    found = []
    for key in keys:
        alert = alerts.get(key)
        sent = store.notices(alert.id) if alert is not None else []
        found.append(Why(*key, alert, tuple(decided.reasons[key]), tuple(sent), at))
    return found or _of_rule(engine, name, at)


def listed(engine: Engine, *, status: Status | None = None, limit: int = 100) -> list[Kept]:
    """The newest alerts first, with the reasons of their last look."""
    return Alerts(engine.database).newest(status=status, limit=limit)


def of_period(engine: Engine, since: datetime, until: datetime) -> tuple[Lasted, ...] | None:
    """Alerts that fired at some moment of ``[since, until)``, the newest first, as its end knew them.

    None: nobody looked with the rules until then, so nothing is known.
    """
    return lasting.of_period(engine.database, since, until)


def notices(engine: Engine, alert_id: str | None = None, limit: int = 100) -> list[Sent]:
    """What was and is to be told, the newest first."""
    return Alerts(engine.database).notices(alert_id, limit)


def waiting(engine: Engine) -> dict[str, tuple[int, datetime]]:
    """By channel: how many notices wait, and since when the oldest does."""
    return Alerts(engine.database).waiting()


def acknowledge(engine: Engine, alert_id: str, *, actor: str, reason: str) -> Alert:
    """Somebody looks after it: nobody further is told, for ``alerts.acknowledged_for``.

    So it is for its incident, and with that for all of its alerts.
    """
    now = engine.clock()

    def rule(alert: Alert) -> Alert:
        if alert.status != "firing":
            raise AlertRefusedError(f"alert {alert.id} is {alert.status}: there is nothing to acknowledge")
        return replace(alert, acknowledged_at=now, acknowledged_by=actor)

    act = _act(actor, "alert.acknowledged", alert_id, reason, now)
    alert = Alerts(engine.database).change(alert_id, rule, act)
    if alert.incident is not None:
        incidents.acknowledge_if_open(engine, alert.incident, actor=actor, reason=reason)
    return alert


def silence(
    engine: Engine,
    *,
    seconds: float,
    rule: str = "",
    subject: str = "",
    severity: Severity | None = None,
    actor: str,
    reason: str,
) -> Silence:
    """Tell nobody of what matches, for so many seconds. At least one of rule, subject, severity is given."""
    now = engine.clock()
    if not (rule or subject or severity):
        raise AlertRefusedError("say what is to be silent: a rule, a subject or a severity")
    if not 0 < seconds <= 30 * 86_400:
        raise AlertRefusedError("a silence lasts more than nothing, and 30 days at most")
    ends = now + timedelta(seconds=seconds)
    made = Silence(uuid7(now), now, ends, rule, subject, severity, actor, reason)
    what = " ".join(filter(None, (rule, subject, severity)))
    Alerts(engine.database).silence(made, _act(actor, "alert.silenced", made.id, f"{what}: {reason}", now))
    return made


def unsilence(engine: Engine, silence_id: str, *, actor: str, reason: str) -> None:
    """End a silence now. AlertNotFoundError when none of this id stands."""
    now = engine.clock()
    act = _act(actor, "alert.unsilenced", silence_id, reason, now)
    if not Alerts(engine.database).unsilence(silence_id, now, act):
        raise AlertNotFoundError(f"no silence {silence_id!r} stands; `regrow alerts silences` shows them")


def silences(engine: Engine) -> list[Silence]:
    """Those that are not over."""
    return Alerts(engine.database).silences(engine.clock())


def send_test(engine: Engine, channel: str | None = None, *, actor: str) -> list[Sent]:
    """Tell a test by a channel, or by all of them, now; what became of each."""
    now, chosen = engine.clock(), engine.settings.alerts
    names = [channel] if channel is not None else sorted(chosen.channels)
    if channel is not None and channel not in chosen.channels:
        raise AlertNotFoundError(f"no channel is named {channel!r}; there are: {', '.join(chosen.channels)}")
    made = uuid7(now)
    body: dict[str, Any] = {
        "alert": made,
        "rule": "test",
        "subject": "",
        "severity": "low",
        "kind": "test",
        "message": f"a test of {actor}",
        "since": now.isoformat(),
        "at": now.isoformat(),
        "incident": None,
        "targets": [],
        "step": None,
        "response_time": 0,
        "others": 0,
    }
    made_of = [Notice(made, "test", name, "test", now, body) for name in names]
    store = Alerts(engine.database)
    store.enqueue(made_of, _act(actor, "alert.tested", channel or "all", "a test", now))
    deliver(engine)
    return store.notices(made)


def prune(engine: Engine) -> int:
    """Delete what was over longer ago than ``alerts.retention_days``; how many alerts went."""
    before = engine.clock() - timedelta(days=engine.settings.alerts.retention_days)
    return Alerts(engine.database).prune(before)


def policy_of(chosen: AlertSettings) -> Policy:
    """The settings as the rules need them."""
    return Policy(
        holds={name: timedelta(seconds=rule.hold) for name, rule in chosen.rules.items()},
        routes={
            severity: Route(
                told.response_time,
                tuple(
                    Step(timedelta(seconds=step.after), step.targets, step.channels) for step in told.steps
                ),
            )
            for severity, told in chosen.severities.items()
        },
        acknowledged_for=timedelta(seconds=chosen.acknowledged_for),
        repeat=timedelta(seconds=chosen.repeat),
        flap_within=timedelta(seconds=chosen.flap_within),
        group_within=timedelta(seconds=chosen.group_within),
    )


def _around(engine: Engine, now: datetime) -> Around:
    graph = graph_of(engine, Book())
    windows = [window for window in maintenance.around(engine, now) if window.covers(now)]
    acknowledged = {
        one.id: (one.acknowledged_at, one.acknowledged_by or "")
        for one in incidents.listed(engine, status="open", limit=1_000)
        if one.acknowledged_at is not None
    }
    return Around(planned=planned_of(graph, windows, now), acknowledged=acknowledged)


def _is_named(name: str, key: Key, alert: Alert | None) -> bool:
    rule, subject = key
    return name in {rule, subject, alert.id if alert else rule} or name in subject


def _of_rule(engine: Engine, name: str, at: datetime | None) -> list[Why]:
    """Of a rule that sees nothing bad, and of one that is switched off."""
    rules = engine.settings.alerts.rules
    chosen = next((told for rule, told in rules.items() if rule == name), None)
    if chosen is None:
        known = ", ".join(sorted(rules))
        raise AlertNotFoundError(f"no rule, subject or alert is named {name!r}; the rules are: {known}")
    said = "the rule looked and found nothing bad" if chosen.enabled else "the rule is switched off"
    return [Why(name, ANY, None, (Reason("observed", False, said),), (), at)]


def _act(actor: str, act: str, subject: str, reason: str, at: datetime) -> Act:
    if not reason.strip():
        raise AlertRefusedError("say why: the reason must not be empty")
    return Act(actor, act, subject, reason.strip(), at)

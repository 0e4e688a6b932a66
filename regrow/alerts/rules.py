"""From what rules see to who is told: one alert a subject, step by step. Pure rules.

observed -> held for -> deduped -> flapping -> inhibited by a parent -> silenced -> in maintenance -> grouped
-> acknowledged -> routed, escalated, repeated -> resolved. Each step leaves a reason, so that "why (not)?"
has an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from regrow.alerts.model import (
    ANY,
    Alert,
    Around,
    Notice,
    NoticeKind,
    Policy,
    Reason,
    Signal,
    is_graver,
)
from regrow.incidents.model import SEVERITIES, worst

NewId = Callable[[datetime], str]
Key = tuple[str, str]


@dataclass
class Decided:
    """The alerts after a look, what is to be told, and the reasons by rule and subject."""

    alerts: dict[Key, Alert] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    reasons: dict[Key, list[Reason]] = field(default_factory=dict)


def decide(
    signals: Iterable[Signal],
    alerts: Mapping[Key, Alert],
    around: Around,
    policy: Policy,
    now: datetime,
    new_id: NewId,
) -> Decided:
    """One look. ``alerts``: those that are not over, and those that were over a moment ago.

    A rule that could not look says so with a signal of the subject ``*``; what it told before stays as it is.
    """
    alerts = {key: alert for key, alert in alerts.items() if not _is_past(alert, policy, now)}
    found = {signal.key: signal for signal in signals}
    blind = {rule: signal for (rule, subject), signal in found.items() if subject == ANY}
    for key, alert in alerts.items():
        if key not in found:
            found[key] = _unseen(alert, blind.get(alert.rule))
    deciding = _Deciding(dict(alerts), around, policy, now, new_id, _sizes(found.values()))
    for signal in sorted(found.values(), key=_order):
        deciding.consider(signal)
    return Decided(deciding.alerts, deciding.notices, deciding.reasons)


def _is_past(alert: Alert, policy: Policy, now: datetime) -> bool:
    """It is over, and what comes now is another one."""
    return alert.status == "resolved" and not _may_go_on(alert, policy, now)


def _may_go_on(alert: Alert, policy: Policy, now: datetime) -> bool:
    return alert.resolved_at is not None and now - alert.resolved_at <= policy.flap_within


def _unseen(alert: Alert, blind: Signal | None) -> Signal:
    bad = None if blind is not None else False
    why = blind.message if blind is not None else "it is not seen any more"
    return Signal(alert.rule, alert.subject, bad, alert.severity, why, incident=alert.incident)


def _order(signal: Signal) -> tuple[int, bool, str, str]:
    """The gravest first, and of one severity what is told for all that hangs on it."""
    own = signal.rule not in {"incident", "monitor_silent"}
    return SEVERITIES.index(signal.severity), own, signal.rule, signal.subject


def _sizes(signals: Iterable[Signal]) -> Counter[str]:
    return Counter(signal.group for signal in signals if signal.bad)


@dataclass
class _Deciding:
    alerts: dict[Key, Alert]
    around: Around
    policy: Policy
    now: datetime
    new_id: NewId
    sizes: Counter[str]
    notices: list[Notice] = field(default_factory=list)
    reasons: dict[Key, list[Reason]] = field(default_factory=dict)

    def consider(self, signal: Signal) -> None:
        alert = self.alerts.get(signal.key)
        if signal.bad is None:
            self._say(signal, "observed", False, f"unknown: {signal.message}; no alert, and no all-clear")
            if alert is None or alert.status != "firing":
                return
            if alert.held_by is not None:  # nor is it a reason to tell what nobody was told
                self._say(signal, "held", False, alert.held_by)
                return
        elif not signal.bad:
            self._say(signal, "observed", False, f"fine: {signal.message}")
            self._fine(signal, alert)
            return
        else:
            self._say(signal, "observed", True, signal.message)
            alert = self._bad(signal, alert)
            if alert.status != "firing":
                return
        self._tell(signal, alert)

    def _say(self, signal: Signal, step: str, passed: bool, why: str) -> None:
        self.reasons.setdefault(signal.key, []).append(Reason(step, passed, why))

    # What it is

    def _bad(self, signal: Signal, alert: Alert | None) -> Alert:
        if alert is None:
            alert = self._new(signal)
        elif alert.status == "resolved":
            alert = replace(alert, status="pending", since=signal.since or self.now, fired_at=None)
        if alert.status == "firing" and is_graver(signal.severity, alert.severity):
            self._say(signal, "graver", True, f"it was {alert.severity}: the escalation begins anew")
            alert = replace(alert, paged_at=None, step=-1, episode=alert.episode + 1)
        if alert.flapping and alert.fine_since is not None and alert.paged_at is not None:
            alert = replace(alert, paged_at=self.now)  # what only flaps is not escalated
        alert = replace(
            alert,
            message=signal.message,
            severity=worst(alert.severity, signal.severity) if alert.status == "firing" else signal.severity,
            incident=signal.incident or alert.incident,
            group=signal.group if alert.status == "pending" else alert.group,
            seen_at=self.now,
            fine_since=None,
        )
        if alert.status == "pending":
            alert = self._held(signal, alert)
        else:
            self._say(signal, "held for", True, f"firing since {_clock(alert.fired_at)}")
            self._say(signal, "deduped", True, "the same alert as before; told again by its steps alone")
        self.alerts[signal.key] = alert
        return alert

    def _new(self, signal: Signal) -> Alert:
        return Alert(
            id=self.new_id(self.now),
            rule=signal.rule,
            subject=signal.subject,
            severity=signal.severity,
            status="pending",
            message=signal.message,
            since=min(signal.since or self.now, self.now),
            seen_at=self.now,
            group=signal.group,
            incident=signal.incident,
        )

    def _held(self, signal: Signal, alert: Alert) -> Alert:
        hold = self.policy.holds.get(signal.rule)
        lasted = self.now - alert.since
        if hold is not None and lasted < hold:
            left = (hold - lasted).total_seconds()
            self._say(signal, "held for", False, f"pending: it must be so for {left:.0f} s more")
            return alert
        self._say(signal, "held for", True, f"so since {_clock(alert.since)}")
        again = bool(alert.reached)
        return replace(
            alert,
            status="firing",
            fired_at=self.now,
            resolved_at=None,
            flapping=again,
            acknowledged_at=None,
            acknowledged_by=None,
            paged_at=None,
            step=-1,
            episode=alert.episode + 1,
        )

    def _fine(self, signal: Signal, alert: Alert | None) -> None:
        if alert is None:
            return
        if alert.status == "pending":
            if alert.reached:
                self.alerts[signal.key] = replace(alert, status="resolved", resolved_at=self.now)
            else:
                del self.alerts[signal.key]
            return
        if alert.status == "resolved":
            return
        since = alert.fine_since or self.now
        if alert.flapping and self.now - since < self.policy.flap_within:
            self._say(
                signal, "flapping", False, f"fine since {_clock(since)}, not yet for long enough to be over"
            )
            self.alerts[signal.key] = replace(alert, fine_since=since)
            return
        over = replace(alert, status="resolved", resolved_at=self.now, fine_since=since, held_by=None)
        if alert.reached:
            self._say(signal, "resolved", True, f"told to {', '.join(alert.reached)}")
            self._enqueue(signal, over, "resolved", f"{alert.episode}:resolved", alert.reached, None)
        self.alerts[signal.key] = replace(over, flapping=False)

    # Whether anybody is told

    def _tell(self, signal: Signal, alert: Alert) -> None:
        held = (
            self._inhibited(signal)
            or self._silenced(signal)
            or self._in_maintenance(signal)
            or self._grouped(signal, alert)
        )
        alert = replace(alert, held_by=held)
        if held is None:
            alert = self._acknowledged(signal, alert)
            if alert.acknowledged_at is None:
                alert = self._escalated(signal, alert)
        self.alerts[signal.key] = alert

    def _inhibited(self, signal: Signal) -> str | None:
        if signal.parent is None:
            self._say(signal, "inhibited", True, "it is bad of itself")
            return None
        why = f"inhibited: it is bad because of {signal.parent}, which is told"
        self._say(signal, "inhibited", False, why)
        return why

    def _silenced(self, signal: Signal) -> str | None:
        found = next((one for one in self.around.silences if one.holds_for(signal, self.now)), None)
        if found is None:
            self._say(signal, "silenced", True, "no silence matches")
            return None
        why = f"silenced until {_clock(found.ends)} by {found.actor}: {found.reason}"
        self._say(signal, "silenced", False, why)
        return why

    def _in_maintenance(self, signal: Signal) -> str | None:
        window = self.around.planned.get(signal.check or signal.subject)
        if window is None:
            self._say(signal, "in maintenance", True, "no maintenance window holds")
            return None
        why = f"in maintenance: window {window}"
        self._say(signal, "in maintenance", False, why)
        return why

    def _grouped(self, signal: Signal, alert: Alert) -> str | None:
        leader = self._leader(signal, alert)
        if leader is None:
            others = self.sizes[alert.group] - 1
            self._say(
                signal, "grouped", True, f"it speaks for {others} more" if others > 0 else "it is alone"
            )
            return None
        why = f"grouped: told with {leader.rule} {leader.subject}"
        self._say(signal, "grouped", False, why)
        return why

    def _leader(self, signal: Signal, alert: Alert) -> Alert | None:
        """The one that speaks for it: of the same group, told, as grave at least, and lately if of a rule."""
        if alert.paged_at is not None:
            return None
        for other in self.alerts.values():
            if other.key == signal.key or other.status != "firing" or other.paged_at is None:
                continue
            if other.group != alert.group or is_graver(alert.severity, other.severity):
                continue
            told = other.notified_at or other.paged_at
            if (
                alert.group.startswith("incident:")
                or (alert.fired_at or self.now) - told <= self.policy.group_within
            ):
                return other
        return None

    def _acknowledged(self, signal: Signal, alert: Alert) -> Alert:
        lasts = self.policy.acknowledged_for
        told = self.around.acknowledged.get(alert.incident or "")
        if alert.acknowledged_at is None and told is not None and self.now - told[0] < lasts:
            alert = replace(alert, acknowledged_at=told[0], acknowledged_by=told[1])
        if alert.acknowledged_at is None:
            self._say(signal, "acknowledged", True, "nobody has acknowledged it")
            return alert
        if self.now - alert.acknowledged_at < lasts:
            until = alert.acknowledged_at + lasts
            why = f"acknowledged by {alert.acknowledged_by} until {_clock(until)}"
            self._say(signal, "acknowledged", False, why)
            return alert
        why = f"{alert.acknowledged_by}'s acknowledgement is over: the escalation begins anew"
        self._say(signal, "acknowledged", True, why)
        again = alert.episode + 1
        return replace(
            alert, acknowledged_at=None, acknowledged_by=None, paged_at=None, step=-1, episode=again
        )

    # Who is told

    def _escalated(self, signal: Signal, alert: Alert) -> Alert:
        steps = self.policy.routes[alert.severity].steps
        began = alert.paged_at or self.now
        if alert.flapping and alert.paged_at is None:
            self._say(signal, "flapping", True, "it came again: one notice, and then quiet until it is over")
            self._enqueue(signal, alert, "flapping", f"{alert.episode}:flapping", alert.reached, 0)
            return replace(alert, paged_at=began, notified_at=self.now, step=0)
        due = [
            number
            for number, step in enumerate(steps)
            if number > alert.step and began + step.after <= self.now
        ]
        if not due:
            return self._repeated(signal, replace(alert, paged_at=began))
        by_channel = {channel: number for number in due for channel in steps[number].channels}
        for number in sorted(set(by_channel.values())):
            channels = tuple(channel for channel, last in by_channel.items() if last == number)
            kind: NoticeKind = "firing" if number == 0 else "escalation"
            self._enqueue(signal, alert, kind, f"{alert.episode}:{number}", channels, number)
            who = ", ".join(steps[number].targets) or "whoever listens"
            self._say(signal, "escalated", True, f"step {number + 1}: {who} by {', '.join(channels)}")
        reached = tuple(dict.fromkeys((*alert.reached, *by_channel)))
        return replace(alert, paged_at=began, notified_at=self.now, step=due[-1], reached=reached)

    def _repeated(self, signal: Signal, alert: Alert) -> Alert:
        steps = self.policy.routes[alert.severity].steps
        if alert.step + 1 < len(steps) and alert.paged_at is not None:
            at = _clock(alert.paged_at + steps[alert.step + 1].after)
            self._say(signal, "escalated", False, f"told; the next step is at {at}")
            return alert
        if alert.notified_at is None or self.now - alert.notified_at < self.policy.repeat:
            self._say(signal, "repeated", False, "told to the last step; not yet due again")
            return alert
        count = int((self.now - (alert.paged_at or self.now)) / self.policy.repeat)
        self._enqueue(signal, alert, "repeat", f"{alert.episode}:again:{count}", steps[0].channels, 0)
        self._say(signal, "repeated", True, "nobody has acknowledged it")
        return replace(alert, notified_at=self.now)

    def _enqueue(
        self,
        signal: Signal,
        alert: Alert,
        kind: NoticeKind,
        step: str,
        channels: Iterable[str],
        number: int | None,
    ) -> None:
        route = self.policy.routes[alert.severity]
        steps = route.steps
        within = number is not None and number < len(steps)
        body: dict[str, Any] = {
            "alert": alert.id,
            "rule": alert.rule,
            "subject": alert.subject,
            "severity": alert.severity,
            "kind": kind,
            "message": alert.message if kind != "resolved" else f"over: {alert.message}",
            "since": alert.since.isoformat(),
            "at": self.now.isoformat(),
            "incident": alert.incident,
            "targets": list(steps[number].targets) if within and number is not None else [],
            "step": number,
            "response_time": route.response_time,
            "others": max(0, self.sizes[signal.group] - 1),
        }
        self.notices += [Notice(alert.id, step, channel, kind, self.now, body) for channel in channels]


def _clock(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "unknown"

"""Rules as the YAML file that Prometheus reads. Strings are written as JSON does, which YAML understands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from regrow.monitoring.rules import Alert, Group, Limits, Record, groups
from regrow.settings import Settings
from regrow.slo.declared import objectives

HEAD = "# Made by `regrow config prometheus` out of the objectives and the shipped rules: do not edit."


def rules_file(settings: Settings) -> str:
    """The file for these settings."""
    return "\n".join(_lines(groups(objectives(settings).values(), limits_of(settings)))) + "\n"


def limits_of(settings: Settings) -> Limits:
    """From where on Regrow's own alert rules alert; a rule without a limit keeps the shipped one."""
    rules, usual = settings.alerts.rules, Limits()

    def limit(name: str, otherwise: float) -> float:
        told = rules[name].threshold if name in rules else None
        return otherwise if told is None else told

    held = rules["breaker_open"].hold if "breaker_open" in rules else usual.breaker_open
    return Limits(
        silent=round(settings.incidents.silent_after),
        breaker_open=round(held),
        checks_failing=limit("checks_failing", usual.checks_failing),
        request_failures=limit("request_failures", usual.request_failures),
        oldest_letter=round(limit("oldest_letter", usual.oldest_letter)),
        disk_full=round(limit("disk_full_soon", usual.disk_full)),
    )


def _lines(found: Iterable[Group]) -> Iterator[str]:
    yield HEAD
    yield "groups:"
    for group in found:
        if not group.rules:
            continue
        yield f"  - name: {group.name}"
        yield "    rules:"
        for rule in group.rules:
            yield from _of_record(rule) if isinstance(rule, Record) else _of_alert(rule)


def _of_record(rule: Record) -> Iterator[str]:
    yield f"      - record: {rule.record}"
    yield f"        expr: {_text(rule.expr)}"


def _of_alert(rule: Alert) -> Iterator[str]:
    yield f"      - alert: {rule.alert}"
    yield f"        expr: {_text(rule.expr)}"
    if rule.hold:
        yield f"        for: {rule.hold}s"
    yield "        labels:"
    for name, value in {"severity": rule.severity, **rule.labels}.items():
        yield f"          {name}: {_text(value)}"
    yield "        annotations:"
    yield f"          summary: {_text(rule.summary)}"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

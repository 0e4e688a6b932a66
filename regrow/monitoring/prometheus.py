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
    return "\n".join(_lines(groups(objectives(settings).values(), Limits()))) + "\n"


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

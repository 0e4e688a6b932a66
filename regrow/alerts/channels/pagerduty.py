"""A notice as an event of PagerDuty (Events API, version 2). All of an alert bear one ``dedup_key``."""

from __future__ import annotations

import json
import socket
from typing import Any

from regrow.alerts.channels.posting import post
from regrow.alerts.model import Notice
from regrow.alerts.wording import plain, title
from regrow.settings.alerts import PagerDutyChannel

_SEVERITY = {"critical": "critical", "high": "error", "medium": "warning", "low": "info"}
_LONGEST_SUMMARY = 1_024


def send(chosen: PagerDutyChannel, notice: Notice) -> None:
    content = json.dumps(event(notice, chosen.routing_key.get_secret_value())).encode()
    post("PagerDuty", str(chosen.url), content, {"Content-Type": "application/json"}, chosen.timeout)


def event(notice: Notice, routing_key: str) -> dict[str, Any]:
    """What is sent: a trigger, or its end."""
    body = notice.body
    told = {"routing_key": routing_key, "dedup_key": notice.alert}
    if notice.kind == "resolved":
        return {**told, "event_action": "resolve"}
    return {
        **told,
        "event_action": "trigger",
        "client": "Regrow",
        "payload": {
            "summary": plain(title(notice), _LONGEST_SUMMARY),
            "source": socket.gethostname(),
            # A digest is of what is past: nobody is called for that.
            "severity": "info" if notice.kind == "digest" else _SEVERITY[body["severity"]],
            "timestamp": body["at"],
            "component": plain(body["subject"], 255),
            "class": body["rule"],
            "custom_details": {
                name: body[name] for name in ("message", "since", "incident", "targets", "others")
            },
        },
    }

"""A notice as a signed POST of JSON. Who receives one twice knows it by its ``Idempotency-Key``."""

from __future__ import annotations

import json
from datetime import datetime

from regrow.alerts.channels.posting import post
from regrow.alerts.model import Notice
from regrow.alerts.wording import as_json, key
from regrow.dead_letters import signature
from regrow.settings.alerts import WebhookChannel


def send(chosen: WebhookChannel, notice: Notice, now: datetime) -> None:
    content = json.dumps(as_json(notice), separators=(",", ":")).encode()
    keys = [one.get_secret_value() for one in chosen.signing_keys]
    headers = {name: value.get_secret_value() for name, value in chosen.headers.items()}
    headers |= {"Content-Type": "application/json", "Idempotency-Key": key(notice)}
    if keys:
        headers[signature.HEADER] = signature.sign(content, keys, now.timestamp())
    post("the webhook", str(chosen.url), content, headers, chosen.timeout)

"""A request to whatever can restart the service, signed and with headers as declared.

Its body tells the attempt in JSON; ``Idempotency-Key`` is the attempt's id. Redirects are not followed.
"""

from __future__ import annotations

import json
import time

import httpx

from regrow.dead_letters import signature
from regrow.engine import Engine
from regrow.outgoing import client, plain
from regrow.recovery.model import Acted, Recovery
from regrow.redaction import Redactor
from regrow.settings.recovery import HttpHandler

_READ = 2048
"""Bytes of an answer that are read at all."""
_SNIPPET = 500


def act(handler: HttpHandler, recovery: Recovery, engine: Engine) -> Acted:
    where = plain(str(handler.url))
    body = json.dumps(
        {
            "service": recovery.service,
            "attempt": recovery.attempt,
            "trigger": recovery.trigger,
            "reason": recovery.reason,
            "failed_at": recovery.failed_at.isoformat() if recovery.failed_at else None,
        }
    ).encode()
    headers = {
        **{name: value.get_secret_value() for name, value in handler.headers.items()},
        "Content-Type": "application/json",
        "Idempotency-Key": recovery.id,
    }
    if handler.signing_keys:
        keys = (key.get_secret_value() for key in handler.signing_keys)
        headers[signature.HEADER] = signature.sign(body, keys, engine.clock().timestamp())
    try:
        status, read = _ask(handler, body, headers)
    except httpx.HTTPError as error:
        # Its text may quote what was sent; the kind says enough.
        return Acted(ok=False, message=f"{where} did not answer: {type(error).__name__}")
    said = Redactor().text(read.decode("utf-8", "replace"))[:_SNIPPET]
    ok = status in handler.expect_status
    remedy = "" if ok or not 300 <= status < 400 else " (redirects are not followed)"
    return Acted(ok, f"{where} answered {status}{remedy}", {"status": status, "answer": said})


def target(handler: HttpHandler) -> str:
    return f"{handler.method} {plain(str(handler.url))}"


def _ask(handler: HttpHandler, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    # To connect, to write and to read have their own bounds: together they fill the time, not thrice it.
    until, part = time.monotonic() + handler.timeout, handler.timeout / 3
    read = b""
    with client().stream(
        handler.method, str(handler.url), content=body, headers=headers, timeout=part
    ) as response:
        for chunk in response.iter_raw():
            read += chunk
            if len(read) >= _READ or time.monotonic() > until:
                break
    return response.status_code, read[:_READ]

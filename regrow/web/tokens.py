"""The token that every form of ours carries, so that no other site can send one."""

from __future__ import annotations

import hmac

from fastapi import Request

from regrow.web.access import SESSION_COOKIE, Door


def form_token(request: Request) -> str:
    """What a form of ours carries."""
    door: Door = request.app.state.door
    session = request.cookies.get(SESSION_COOKIE, "")
    return hmac.new(door.form_secret, f"form:{session}".encode(), "sha256").hexdigest()

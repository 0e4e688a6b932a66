"""Acts from a page: a form that says what it does, a token no other site can know, the reason in the audit.

The token is made from the session (or, on a developer's own machine, from a secret of this process), so that
a form of another site cannot carry it; and browsers say where a form comes from, which is looked at as well.
"""

from __future__ import annotations

import hmac
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, HTTPException, Request

from regrow.web.access import Door, the_door
from regrow.web.sign_in import refuse_foreign_forms
from regrow.web.tokens import form_token

_FORM_BYTES = 16_384
LONGEST_REASON = 1_000


async def own_form(request: Request, door: Annotated[Door, Depends(the_door)]) -> dict[str, str]:
    """A dependency of acts from a page: the fields of a form that this page gave out, sent by who may act."""
    refuse_foreign_forms(request)
    if not (door.signed_in(request) or door.is_local(request)):
        raise HTTPException(401, "sign in first: nothing was done")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            raise HTTPException(413, "the form is too large")
    fields = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    if not hmac.compare_digest(fields.get("token", "").encode(), form_token(request).encode()):
        raise HTTPException(403, "this form is not of this session; open the page again: nothing was done")
    return fields


def said(fields: dict[str, str], name: str) -> str:
    """A text that must not be empty, nor endless."""
    text = fields.get(name, "").strip()
    if not text or len(text) > LONGEST_REASON:
        raise HTTPException(422, f"say something in {name!r}, {LONGEST_REASON} characters at most")
    return text


def page_actor(request: Request) -> str:
    """Who acts, for the audit: the page, and from where."""
    return f"page@{request.client.host if request.client else 'unknown'}"


OwnForm = Annotated[dict[str, str], Depends(own_form)]

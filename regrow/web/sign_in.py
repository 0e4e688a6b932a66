"""Signing in with the key, so that a browser can see the page: a form, a signed cookie, a way out.

The session cannot be forged or stretched; it ends after 12 hours, and at once when the key changes.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Annotated
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from starlette.responses import RedirectResponse

from regrow.web.access import CHALLENGE, NO_KEY, SESSION_COOKIE, Door, Verdict, the_door
from regrow.web.keys import SESSION_SECONDS
from regrow.web.pages import page
from regrow.web.shield import host_of
from regrow.web.wording import sentence

router = APIRouter(include_in_schema=False)

_FORM_BYTES = 8192
_OWN_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")

TheDoor = Annotated[Door, Depends(the_door)]

_WORDS = {
    Verdict.WRONG_KEY: "That is not the key. Look for API_KEY where Regrow was started.",
    Verdict.NO_KEY_SET: f"{sentence(NO_KEY)}.",
    Verdict.WAIT: "Too many wrong keys came from your address. Wait a minute, then try again.",
}


@router.get("/sign-in")
async def form(request: Request, door: TheDoor, then: str = "/") -> Response:
    verdict = Verdict.NO_KEY_SET if door.key is None else None
    return _form(request, then, verdict)


@router.post("/sign-in")
async def sign_in(request: Request, door: TheDoor) -> Response:
    """Take the key out of the form; a session for the right one."""
    refuse_foreign_forms(request)
    fields = parse_qs(await _small_body(request), max_num_fields=4)
    given, then = fields.get("key", [""])[0], fields.get("then", ["/"])[0]
    verdict = door.try_key(given.strip(), request.client.host if request.client else "")
    if verdict is not Verdict.WELCOME or door.key is None:
        return _form(request, then, verdict)
    answer = RedirectResponse(own_path(then), 303)
    answer.set_cookie(
        SESSION_COOKIE,
        door.key.session(time.time(), secrets.token_urlsafe(12)),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=_is_https(request),
    )
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    refuse_foreign_forms(request)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict", secure=_is_https(request))
    return answer


def sign_in_path(request: Request) -> str:
    """Where to sign in and come back from."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/sign-in?then={quote(asked, safe='/')}"


def own_path(then: str) -> str:
    """A path of ours, or the overview: no link may send people elsewhere after they signed in."""
    return then if _OWN_PATH.fullmatch(then) else "/"


def refuse_foreign_forms(request: Request) -> None:
    """A form of another site must not act here, nor sign anybody in under a key that is not theirs."""
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin", "null")  # "null" under our own no-referrer policy
    own = origin == "null" or host_of(origin.partition("://")[2]) == host_of(request.headers.get("host", ""))
    if site not in {"same-origin", "none"} or not own:
        raise HTTPException(403, "this form was sent by another site")


def _form(request: Request, then: str, verdict: Verdict | None) -> Response:
    return page(
        request,
        "sign_in.html",
        {"then": own_path(then), "trouble": _WORDS.get(verdict) if verdict else None},
        status=verdict.value if verdict else 200,
        headers=CHALLENGE if verdict is Verdict.WRONG_KEY else None,
    )


async def _small_body(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            raise HTTPException(413, "the form is too large")
    return body.decode("utf-8", "replace")


def _is_https(request: Request) -> bool:
    """Also behind a proxy that ends TLS. Who lies about it only keeps their own cookie from coming back."""
    return "https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "")}

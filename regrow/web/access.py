"""Who may see what: the door in front of detail, metrics, reports and the page.

Detail takes the key (``X-API-Key`` or ``Authorization: Bearer``) or the session of a browser that signed
in with it. The page takes the same, and on a developer's own machine (profile development or testing,
bound to loopback, asked from loopback) it takes anybody.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from enum import Enum
from typing import Annotated

import structlog
from fastapi import Depends, HTTPException, Request

from regrow.settings import Settings
from regrow.web.keys import WEAK_BELOW, Guesses, Key, is_loopback

logger = structlog.get_logger(__name__)

SESSION_COOKIE = "regrow_session"
NO_KEY = "no API key is configured, so nobody may see this; set API_KEY or API_KEY_FILE and start again"
NO_INTAKE_KEY = "no key is configured, so nobody may bring messages; set web.intake_key and start again"
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="regrow"'}
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class Verdict(Enum):
    """What the door says; the value is the HTTP status."""

    WELCOME = 200
    WRONG_KEY = 401
    NO_KEY_SET = 403
    WAIT = 429


class Door:
    """Decides over one process's requests."""

    def __init__(self, settings: Settings) -> None:
        secret = settings.web.api_key.get_secret_value() if settings.web.api_key else ""
        self.key = Key.of(secret) if secret else None
        intake = settings.web.intake_key.get_secret_value() if settings.web.intake_key else ""
        self.intake_key = Key.of(intake) if intake else None
        self.guesses = Guesses()
        self.form_secret = self.key.signing if self.key else secrets.token_bytes(32)
        self._open_locally = settings.profile != "production" and is_loopback(settings.web.host)
        if not secret:
            logger.warning("web.no_key", remedy="set API_KEY or API_KEY_FILE to see detail, metrics, reports")
        elif len(secret) < WEAK_BELOW:
            logger.warning("web.weak_key", remedy=f"use at least {WEAK_BELOW} random characters")

    def judge(self, request: Request) -> Verdict:
        """The verdict on whoever asks for detail."""
        given = _given_key(request)
        if given is not None:
            return self.try_key(given, address_of(request))
        return Verdict.WELCOME if self.signed_in(request) else self._unwelcome()

    def judge_page(self, request: Request) -> Verdict:
        """The verdict on whoever asks for a page."""
        if _given_key(request) is None and self.is_local(request):
            return Verdict.WELCOME
        return self.judge(request)

    def judge_intake(self, request: Request) -> Verdict:
        """The verdict on whoever brings messages: a key must be given, a browser's session will not do."""
        return self._try_keys((self.intake_key, self.key), _given_key(request), address_of(request))

    def judge_act(self, request: Request) -> Verdict:
        """The verdict on whoever acts by HTTP: the key itself must be given, so that no site can ride on a
        browser's session."""
        return self._try_keys((self.key,), _given_key(request), address_of(request))

    def try_key(self, given: str, address: str) -> Verdict:
        """Judge a key; wrong ones are counted, and after too many nothing is compared for a while."""
        return self._try_keys((self.key,), given, address)

    def _try_keys(self, keys: Sequence[Key | None], given: str | None, address: str) -> Verdict:
        now = time.monotonic()
        known = [key for key in keys if key is not None]
        if not known:
            return Verdict.NO_KEY_SET
        if given is None:
            return Verdict.WRONG_KEY
        if self.guesses.wait(address, now) > 0:
            return Verdict.WAIT
        matching = [key.matches(given) for key in known]  # each is compared, whichever fits
        if any(matching):
            return Verdict.WELCOME
        self.guesses.wrong(address, now)
        logger.warning("web.wrong_key", address=address)
        return Verdict.WRONG_KEY

    def signed_in(self, request: Request) -> bool:
        session = request.cookies.get(SESSION_COOKIE, "")
        return self.key is not None and self.key.admits(session, time.time())

    def is_local(self, request: Request) -> bool:
        """Asked from this machine, and not passed on by a proxy, which would make everybody local."""
        forwarded = any(name in request.headers for name in _FORWARDED)
        return self._open_locally and is_loopback(address_of(request)) and not forwarded

    def refusal(self, request: Request, verdict: Verdict) -> HTTPException:
        """The refusal as an HTTP error, with the remedy."""
        if verdict is Verdict.NO_KEY_SET:
            return HTTPException(403, NO_KEY)
        if verdict is Verdict.WAIT:
            wait = max(1, round(self.guesses.wait(address_of(request), time.monotonic())))
            return HTTPException(
                429, f"too many wrong keys; try again in {wait} s", {"Retry-After": str(wait)}
            )
        return HTTPException(
            401,
            "give the API key as X-API-Key: ... or Authorization: Bearer ...",
            CHALLENGE,
        )

    def _unwelcome(self) -> Verdict:
        return Verdict.NO_KEY_SET if self.key is None else Verdict.WRONG_KEY


class SignInWantedError(Exception):
    """A browser should be shown the way to sign in."""


def _given_key(request: Request) -> str | None:
    if (key := request.headers.get("x-api-key")) is not None:
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def address_of(request: Request) -> str:
    """Where a request comes from; empty when the server does not say."""
    return request.client.host if request.client else ""


def the_door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


def need_key(request: Request, door: Annotated[Door, Depends(the_door)]) -> None:
    """A dependency of endpoints that show detail."""
    verdict = door.judge(request)
    if verdict is not Verdict.WELCOME:
        raise door.refusal(request, verdict)


def need_act_key(request: Request, door: Annotated[Door, Depends(the_door)]) -> None:
    """A dependency of endpoints that change something."""
    verdict = door.judge_act(request)
    if verdict is not Verdict.WELCOME:
        raise door.refusal(request, verdict)


def need_page(request: Request, door: Annotated[Door, Depends(the_door)]) -> None:
    """A dependency of pages: a browser without a session is sent to the sign-in form."""
    verdict = door.judge_page(request)
    if verdict is Verdict.WELCOME:
        return
    browsing = "text/html" in request.headers.get("accept", "") and _given_key(request) is None
    if browsing and verdict is Verdict.WRONG_KEY:
        raise SignInWantedError
    raise door.refusal(request, verdict)


def need_intake_key(request: Request, door: Annotated[Door, Depends(the_door)]) -> None:
    """A dependency of endpoints that take failed messages in."""
    verdict = door.judge_intake(request)
    if verdict is Verdict.NO_KEY_SET:
        raise HTTPException(403, NO_INTAKE_KEY)
    if verdict is not Verdict.WELCOME:
        raise door.refusal(request, verdict)


ActOnly = Depends(need_act_key)
DetailOnly = Depends(need_key)
IntakeOnly = Depends(need_intake_key)
PageOnly = Depends(need_page)

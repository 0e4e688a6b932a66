"""Answers that say what went wrong, as RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> ProblemResponse:
    """``{"type", "title", "status", "detail"}``: the status in words, and what to do about it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return ProblemResponse(body, status, dict(headers or {}))

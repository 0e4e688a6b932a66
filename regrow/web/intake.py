"""``POST /dead-letters``: failed messages from services that speak HTTP and no Celery.

Least privilege: the intake key opens this and nothing else, and what comes in here says what kind of message
it is, never where it goes; that is for the routes in the settings. Its keys are kept apart from everybody
else's, so that no caller can pass for another app's message.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import JSONResponse

from regrow.dead_letters import service
from regrow.dead_letters.captured import Capture, Priority, bounded_key, of_message
from regrow.engine import Engine
from regrow.errors import LetterRefusedError, StoreUnavailableError
from regrow.failures import FailureClass
from regrow.web.access import IntakeOnly
from regrow.web.answers import TheReader

MOST = 200
"""Messages of one request: all are kept in one transaction, or none is."""
AT_ONCE = 8
"""Requests whose bodies are in memory at the same time; more are asked to come again."""
BODY_SECONDS = 30.0
"""A body that takes longer to arrive is given up."""
_RETRY_AFTER = 5

_TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

Name = Annotated[str, Field(min_length=1, max_length=190)]


class ErrorFacts(BaseModel):
    """What it failed with: its class as a dotted name, its text, its traceback as text."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    kind: str | None = Field(None, alias="class", max_length=255)
    message: str | None = None
    traceback: str | None = None
    bases: list[str] | None = Field(None, max_length=20)
    retry_after: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class FailedMessage(BaseModel):
    """One message that failed for good. ``message`` is any JSON value, kept whole."""

    model_config = ConfigDict(extra="forbid")

    message: Any
    message_type: Name
    error: str | ErrorFacts | None = None
    service: Name | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    max_retries: Annotated[int, Field(ge=0, le=1000, strict=True)] | None = None
    failed_at: AwareDatetime | None = None
    useful_until: AwareDatetime | None = None
    failure_class: FailureClass | None = None
    priority: Priority = "normal"
    order_key: Name | None = None
    correlation_id: Annotated[str, Field(max_length=255)] | None = None
    traceparent: Annotated[str, Field(pattern=_TRACEPARENT)] | None = None
    code_version: Annotated[str, Field(max_length=190)] | None = None


_ONE = TypeAdapter(FailedMessage)


@dataclass(frozen=True)
class Kept:
    """An event, and whether it was known before this request."""

    event_id: str
    known: bool


class RefusedError(Exception):
    """The request as it is cannot be kept: ``status`` and ``detail`` of the answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Intake:
    """One a process: how many requests are in hand, and the threads that keep them."""

    def __init__(self) -> None:
        self.free = AT_ONCE
        self.threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="intake")

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)


def the_intake(request: Request) -> Intake:
    intake: Intake = request.app.state.intake
    return intake


router = APIRouter(tags=["dead letters"])


def _schema() -> dict[str, Any]:
    """The request in OpenAPI's words. The body is read by hand, after the key was looked at."""
    one = FailedMessage.model_json_schema(by_alias=True)
    facts = one.pop("$defs", {})
    inlined = json.loads(
        json.dumps(one),
        object_hook=lambda found: facts[found["$ref"].rsplit("/", 1)[1]] if "$ref" in found else found,
    )
    many = {"type": "array", "items": inlined, "minItems": 1, "maxItems": MOST}
    return {"content": {"application/json": {"schema": {"oneOf": [inlined, many]}}}, "required": True}


_EVENT = {
    "type": "object",
    "properties": {"event_id": {"type": "string"}, "known": {"type": "boolean"}},
    "required": ["event_id", "known"],
}
_EVENTS = {
    "type": "object",
    "properties": {"events": {"type": "array", "items": _EVENT}},
    "required": ["events"],
}
_ANSWER = {"content": {"application/json": {"schema": {"oneOf": [_EVENT, _EVENTS]}}}}


@router.post(
    "/dead-letters",
    status_code=201,
    response_class=JSONResponse,
    dependencies=[IntakeOnly],
    openapi_extra={
        "requestBody": _schema(),
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 1000},
                "description": "names the request: repeated with it, nothing is kept twice",
            }
        ],
    },
    responses={
        201: {"description": "kept: its transaction is committed", **_ANSWER},
        200: {"description": "known before, nothing new is kept", **_ANSWER},
        401: {"description": "no key, or a wrong one"},
        403: {"description": "no key is configured"},
        408: {"description": "the body took too long"},
        413: {"description": "too large, the answer says by which limit"},
        415: {"description": "not application/json"},
        422: {"description": "not a message that can be kept; the answer names the place"},
        429: {"description": "too many wrong keys"},
        503: {"description": "nothing is kept, send the same again after Retry-After seconds"},
    },
)
async def keep_failed_messages(
    request: Request, reader: TheReader, intake: Annotated[Intake, Depends(the_intake)]
) -> JSONResponse:
    """Keep one failed message, or up to 200 at once, all of them or none."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send the messages as application/json")
    if intake.free <= 0:
        raise _later("too many messages arrive at once")
    intake.free -= 1
    try:
        body = await _body(request)
        key = request.headers.get("idempotency-key")
        loop = asyncio.get_running_loop()
        many, kept = await loop.run_in_executor(intake.threads, _keep, reader.engine, body, key)
    except RefusedError as error:
        raise HTTPException(error.status, error.detail) from None
    except StoreUnavailableError:
        raise _later("the database is away") from None
    finally:
        intake.free += 1
    events = [{"event_id": one.event_id, "known": one.known} for one in kept]
    status = 200 if all(one.known for one in kept) else 201
    return JSONResponse({"events": events} if many else events[0], status)


def _later(why: str) -> HTTPException:
    told = f"{why}; nothing is kept, send the same again in {_RETRY_AFTER} s"
    return HTTPException(503, told, {"Retry-After": str(_RETRY_AFTER)})


async def _body(request: Request) -> bytes:
    """The whole body; its size is limited around every endpoint (``web.max_content_length``)."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError:
        raise HTTPException(408, f"the body took longer than {BODY_SECONDS:g} s") from None


def _keep(engine: Engine, body: bytes, key: str | None) -> tuple[bool, Sequence[Kept]]:
    """Read and keep; whether it was a list, and what became of each."""
    read = _json(body)
    many = isinstance(read, list)
    payloads = read if isinstance(read, list) else [read]
    if not 0 < len(payloads) <= MOST:
        raise RefusedError(422, f"{len(payloads)} messages; send 1 to {MOST} at once")
    captures = [
        _capture(engine, payload, f"[{number}]" if many else "", _event_id(key, number if many else None))
        for number, payload in enumerate(payloads)
    ]
    known = service.known_events(engine, [captured.event_id for captured in captures])
    service.capture_many(engine, captures)
    return many, [Kept(captured.event_id, captured.event_id in known) for captured in captures]


def _json(body: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RefusedError(422, f"the body is not JSON: {error}") from None


def _event_id(key: str | None, number: int | None) -> str | None:
    if key is None:
        return None
    if not key.strip():
        raise RefusedError(422, "Idempotency-Key is empty; leave it out, or name the request")
    return bounded_key(f"http:{key}" if number is None else f"http:{key}:{number}")


def _capture(engine: Engine, payload: Any, place: str, event_id: str | None) -> Capture:
    """The capture that a payload describes; what is wrong with it is named with its place."""
    try:
        told = _ONE.validate_python(payload)
        captured = _captured(told, event_id or str(uuid.uuid4()))
    except ValidationError as error:
        raise RefusedError(422, _explained(error, place)) from None
    except LetterRefusedError as error:
        raise RefusedError(422, f"{place or 'the message'}: {error}") from None
    try:
        return service.checked(engine, captured)
    except LetterRefusedError as error:
        raise RefusedError(413, f"{place or 'the message'}: {error}") from None


def _captured(told: FailedMessage, event_id: str) -> Capture:
    options = told.model_dump(exclude={"message", "error", "idempotency_key"}, exclude_none=True)
    error = told.error
    return of_message(
        told.message,
        as_call=False,
        error=error.model_dump(by_alias=True, exclude_none=True) if isinstance(error, ErrorFacts) else error,
        event_id=event_id,
        idempotency_key=f"http:{told.idempotency_key}" if told.idempotency_key else f"event:{event_id}",
        source="http",
        **options,
    )


def _explained(error: ValidationError, place: str) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False)[:10]:
        where = ".".join(str(part) for part in problem["loc"] if part not in {"str", "ErrorFacts"})
        lines.append(f"{place}{'.' if place and where else ''}{where or 'the message'}: {problem['msg']}")
    return "; ".join(lines)

"""Logs: structlog over the standard library, pretty for people, JSON lines for machines.

Library code logs through ``logging.getLogger(__name__)`` or ``structlog.get_logger()``; both end here.
Field names that look secret are masked, whoever logs them.
"""

from __future__ import annotations

import json
import logging
import secrets
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import structlog

from regrow.log_events import CREDENTIALS, Each
from regrow.redaction import Redactor

_SECRET_WORDS = ("password", "secret", "token", "api_key", "authorization", "cookie")
_PUBLIC = {"lease_token"}  # a fence, not a secret
_QUOTES = {"error", "reason", "exception", "answer"}
_redactor = Redactor()
_SHORT = 200


def configure_logging(level: str = "INFO", style: str = "auto", *, production: bool = False) -> None:
    """Set up the root logger once for this process.

    ``style``: ``json``, ``pretty``, or ``auto``: JSON in production or when nobody looks on, else pretty.
    """
    pretty = style == "pretty" or (style == "auto" and not production)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
        structlog.processors.StackInfoRenderer(),
        _tidy,
        _mask_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # first, so that what nobody will see costs nothing
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderers: list[structlog.typing.Processor] = (
        # Plain tracebacks: the decorated ones take seconds and print local variables, secrets among them.
        [
            _OneByOne(
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(),
                    pad_event_to=24,
                    exception_formatter=structlog.dev.plain_traceback,
                )
            )
        ]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_as_json)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    # Where in the code a line was written stands in no line of ours, and to look for it is an eighth of each.
    logging._srcfile = None  # noqa: SLF001 - as Python's own documentation says
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One line a request or a poll tells nobody anything.
    for chatty in (
        "httpx",
        "httpcore",
        "alembic",
        "uvicorn.access",
        "celery.worker.strategy",
        "celery.app.trace",
    ):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


_encode = json.JSONEncoder(default=str).encode


# Stands for one of them while the rest of the line is made; nobody else's text has it, whatever they send.
_PLACE = secrets.token_hex(16)


def _as_json(fields: Any, **_: Any) -> str:
    name = _each_in(fields)
    if name is None:
        return _encode(fields)
    before, after = _encode({**fields, name: _PLACE}).split(_encode(_PLACE))
    return "\n".join(f"{before}{_encode(value)}{after}" for value in fields[name].values)


class _OneByOne:
    """A renderer of single lines that is given many at once."""

    def __init__(self, render: structlog.typing.Processor) -> None:
        self._render = render

    def __call__(self, logger: Any, method: str, fields: MutableMapping[str, Any]) -> Any:
        name = _each_in(fields)
        if name is None:
            return self._render(logger, method, fields)
        lines = (self._render(logger, method, {**fields, name: value}) for value in fields[name].values)
        return "\n".join(map(str, lines))


def _each_in(fields: Mapping[str, Any]) -> str | None:
    return next((name for name, value in fields.items() if isinstance(value, Each)), None)


def _tidy(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    fields.pop("color_message", None)  # uvicorn says everything twice, once in colour
    if str(fields.get("event", "")).startswith("breaker.") and "breaker" in fields:
        # The standard library keeps `name` for the logger; from here on it is free for the breaker's.
        fields["name"] = fields.pop("breaker")
    return fields


@lru_cache(maxsize=1024)  # names of fields are few, and each line asks for all of its own
def _is_secret(name: str) -> bool:
    return name not in _PUBLIC and any(word in name.lower() for word in _SECRET_WORDS)


@lru_cache(maxsize=256)  # a storm says the same few words again and again
def _redacted(text: str) -> str:
    return _redactor.text(text)


def _mask_secrets(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in fields.items():
        if _is_secret(name):
            fields[name] = "***"
        elif isinstance(value, str):
            # What went wrong is told in others' words, and those quote messages.
            if name in _QUOTES:
                fields[name] = _redacted(value) if len(value) <= _SHORT else _redactor.text(value)
            elif "@" in value:
                fields[name] = CREDENTIALS.sub("://***@", value)
    return fields

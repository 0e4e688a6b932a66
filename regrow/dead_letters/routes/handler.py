"""Home to a Python function of the app's, which is called here, in a task of Regrow's worker.

Only the names that the settings say are imported, never one from a letter.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from regrow.dead_letters.message import Message
from regrow.dead_letters.route import Outbound
from regrow.engine import Engine
from regrow.errors import CircuitOpenError, DeliveryFailedError, DeliveryRefusedError, RouteError
from regrow.retries.hints import retry_after
from regrow.settings import Settings
from regrow.settings.routes import HandlerRoute

Handler = Callable[[Message], object]

_MARGIN = 15.0


@dataclass(frozen=True)
class HandlerCall:
    """``breaker`` is the letter's service. The task that calls has the time limits of ``[celery]``."""

    engine: Engine = field(repr=False)
    declared: HandlerRoute
    breaker: str

    settled: Literal["return"] = "return"
    runs_here: Literal[True] = True
    place: None = None

    @property
    def target(self) -> str:
        return f"handler {self.declared.handler}"

    @property
    def longest(self) -> float:
        return self.engine.settings.celery.task_time_limit + _MARGIN

    def send(self, outbound: Outbound) -> None:
        """DeliveryFailedError for whatever the handler raises, but for our own words for refusals."""
        handler, message = load(self.declared.handler), message_of(outbound)
        try:
            handler(message)
        except (CircuitOpenError, DeliveryFailedError, DeliveryRefusedError):
            raise
        except Exception as error:
            name = _name_of(error)
            wait = retry_after(error, self.engine.clock())
            raise DeliveryFailedError(f"{name}: {error}", error_class=name, retry_after=wait) from error

    def validate(self, outbound: Outbound) -> None:
        handler, message = load(self.declared.validate_with or self.declared.handler), message_of(outbound)
        if self.declared.validate_with is None:
            return
        try:
            handler(message)
        except Exception as error:
            raise DeliveryRefusedError(
                f"{self.declared.validate_with}: {_name_of(error)}: {error}"
            ) from error


def load(name: str) -> Handler:
    """The function ``package.module:function``; RouteError says what is wrong with it."""
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # an app's module may raise anything while it is imported
        raise RouteError(f"{name} cannot be loaded ({_name_of(error)}: {error})") from error
    if not callable(found):
        raise RouteError(f"{name} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def unloadable(settings: Settings) -> Iterator[str]:
    """A line for each function of the settings that cannot be loaded: the key, the reason, the remedy."""
    for kind, route in settings.dead_letters.routes.items():
        if not isinstance(route, HandlerRoute):
            continue
        for key in ("handler", "validate_with"):
            name = getattr(route, key)
            try:
                if name is not None:
                    load(name)
            except RouteError as error:
                yield (
                    f"dead_letters.routes.{kind}.{key}: {error}. Install the app beside Regrow's worker, "
                    "or correct the name."
                )


def message_of(outbound: Outbound) -> Message:
    """What a handler gets. RouteError when the body is not what its content type says."""
    letter, body = outbound.letter, outbound.body
    return Message(
        body=_decoded(body.body, body.content_type, body.content_encoding),
        raw=body.body,
        content_type=body.content_type,
        headers=MappingProxyType(dict(body.headers)),
        letter_id=letter.id,
        effect_key=outbound.effect_key,
        attempt=letter.attempts + 1,
        message_type=letter.message_type,
        service=letter.service,
        error_class=letter.error_class,
        error_message=letter.error_message,
        first_failed_at=letter.first_failed_at,
    )


def _decoded(body: bytes, content_type: str, encoding: str) -> Any:
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "application/json" or kind.endswith("+json"):
            return json.loads(body)
        if kind.startswith("text/"):
            return body.decode(encoding if encoding != "binary" else "utf-8")
    except (ValueError, LookupError, RecursionError) as error:
        raise RouteError(f"the body is not the {kind} that it claims to be ({error})") from None
    return body


def _name_of(error: BaseException) -> str:
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")

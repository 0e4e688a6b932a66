"""What ``[recovery.services.NAME]`` may declare: one model a kind of handler, told apart by ``kind``."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from regrow.settings.checks.common import Seconds, Severity
from regrow.settings.shapes import Address, Function, Section, SigningKeys

CheckName = Annotated[str, Field(min_length=1, max_length=190)]


class _Handler(Section):
    """What every recovery handler has. Times in seconds."""

    enabled: bool = True
    """Whether it acts at all."""
    breaker: Annotated[str, Field(max_length=190)] | None = None
    """The circuit breaker whose opening starts it; without it the one of its own name. "": none."""
    check: CheckName | None = None
    """The health check whose failure starts it; without it the one of its own name, if there is one."""
    test: CheckName | None = None
    """The health check that tells whether the service is back; without it `check`."""
    precondition: CheckName | None = None
    """A health check that must be well before anything is done; while it is not, no attempt is spent."""
    depends_on: tuple[str, ...] = ()
    """Services that must be well before this one is touched, beside those that its check depends on."""
    timeout: Seconds = 30.0
    """Longest time that the act itself may take."""
    settle: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    """How long after the act the test is repeated until it passes."""
    interval: Seconds | None = None
    """Pause after the first attempt; without it `recovery.interval`."""
    max_attempts: Annotated[int, Field(ge=1)] | None = None
    """Attempts before a person is called; without it `recovery.max_attempts`."""
    backoff: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """How much longer each pause is; without it `recovery.backoff`."""
    severity: Severity = "high"
    """How bad it is when a person is called: critical, high, medium or low."""
    dry_run: bool = False
    """Write down once for each opening what would be done, and do nothing."""


class BreakerHandler(_Handler):
    """Nothing but the test: when it passes, the breaker is reset."""

    kind: Literal["breaker"]


class DatabaseHandler(_Handler):
    """The pool is emptied and a new connection asked for ``SELECT 1``, which is a test too."""

    kind: Literal["database"]
    url: SecretStr | None = None
    """A SQLAlchemy URL; without it Regrow's own database, whose pool is emptied."""


class CommandHandler(_Handler):
    """A command, without a shell, in a process group of its own that ends with its time."""

    kind: Literal["command"]
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    """Program and arguments, a list; no shell reads them."""
    cwd: str | None = None
    """The folder it is started in; without it `/`."""
    env: dict[str, SecretStr] = Field(default_factory=dict)
    """Its environment beside PATH, HOME and LANG; secrets by ${VARIABLE} or NAME_file."""

    @field_validator("argv")
    @classmethod
    def _a_program(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        if not argv[0].strip() or any("\0" in part for part in argv):
            raise ValueError("name a program, and its arguments as further items of the list")
        return argv


class HttpHandler(_Handler):
    """A request to whatever can restart the service."""

    kind: Literal["http"]
    url: Address
    """What is asked: https, but for loopback names and the testing profile."""
    method: Literal["POST", "PUT"] = "POST"
    """How it is asked."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent along; secrets by ${VARIABLE} or NAME_file."""
    signing_keys: SigningKeys = ()
    """Each signs the request; as a list, or one a line in the file of `signing_keys_file`."""
    expect_status: tuple[int, ...] = (200, 201, 202, 203, 204)
    """Answers that mean it was done."""


class PythonHandler(_Handler):
    """A function of the app's, called in a process of its own, with Regrow's environment."""

    kind: Literal["python"]
    function: Function
    """`package.module:function`; it takes one argument, a `regrow.recovery.Recovery`."""


HandlerSettings = Annotated[
    BreakerHandler | DatabaseHandler | CommandHandler | HttpHandler | PythonHandler,
    Field(discriminator="kind"),
]

HANDLER_KINDS = ("breaker", "database", "command", "http", "python")

PROVES_ITSELF = ("database", "python")
"""Kinds whose act says by itself whether the service is back."""


def breaker_of(service: str, handler: HandlerSettings) -> str | None:
    """The circuit breaker whose opening starts the handler."""
    return service if handler.breaker is None else handler.breaker or None


def check_of(service: str, handler: HandlerSettings, checks: Container[str]) -> str | None:
    """The health check whose failure starts the handler."""
    if handler.check is not None:
        return handler.check
    return service if service in checks else None


def test_of(service: str, handler: HandlerSettings, checks: Container[str]) -> str | None:
    """The health check that tells whether the service is back."""
    return handler.test or check_of(service, handler, checks)


def longest(handler: HandlerSettings, timeouts: Mapping[str, float], test: str | None) -> float:
    """Seconds that one attempt may take at most; ``timeouts`` are those of the checks."""
    before = timeouts.get(handler.precondition or "", 0.0)
    return before + handler.timeout + handler.settle + timeouts.get(test or "", 0.0) + MARGIN


MARGIN = 10.0
"""Seconds beside an attempt's own bounds: ending a process group, writing down what became of it."""

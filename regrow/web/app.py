"""The ASGI application: one router a noun, and around them the shield.

Nothing here is remembered between requests but wrong keys; every answer is read from the stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from regrow.asgi import ReliabilityMiddleware
from regrow.drain import Drain
from regrow.engine import Engine
from regrow.intake import Intake as Requests
from regrow.settings.reloading import EVERY
from regrow.version import __version__
from regrow.web import (
    alerts,
    breakers,
    dead_letters,
    degradation,
    health,
    incidents,
    intake,
    metrics,
    overview,
    recovery,
    reliability,
    reports,
    sign_in,
    slos,
    status,
)
from regrow.web.access import DetailOnly, Door, SignInWantedError
from regrow.web.pages import page
from regrow.web.problems import problem
from regrow.web.reading import Reader
from regrow.web.shield import BodyLimit, HeadAsGet, KnownHosts, SecurityHeaders

logger = structlog.get_logger("regrow.web")

OBSERVERS = ("/health", "/metrics", "/reliability", "/status")
"""Paths that answer to the end: whoever watches a process wants to see it drain."""


def create_app(engine: Engine, drain: Drain | None = None, *, drain_on_signals: bool = False) -> FastAPI:
    """The web application on this engine's settings and stores; nothing is connected yet.

    ``drain``: how the process that serves it stops; ``drain_on_signals``: it is the process's own drain, and
    SIGTERM and SIGINT begin it.
    """
    requests = Requests()
    drain = drain or Drain(intakes=[requests])
    settings = engine.settings
    app = FastAPI(
        title="Regrow",
        version=__version__,
        summary="Health, circuit breakers, dead letters, jobs and reports of one Regrow.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.door = Door(settings)
    app.state.reader = Reader(engine)
    app.state.since = engine.clock()
    app.state.intake = intake.Intake()
    app.state.drain = drain

    for noun in (
        health,
        breakers,
        degradation,
        recovery,
        incidents,
        alerts,
        reliability,
        dead_letters,
        intake,
        metrics,
        status,
        reports,
        slos,
        overview,
        sign_in,
    ):
        app.include_router(noun.router)
    app.add_api_route("/openapi.json", app.openapi, dependencies=[DetailOnly], include_in_schema=False)
    app.mount("/static", _KeptFiles(directory=Path(__file__).parent / "static"))

    app.add_exception_handler(HTTPException, _explain)
    app.add_exception_handler(RequestValidationError, _explain_input)
    app.add_exception_handler(SignInWantedError, _to_sign_in)

    # The last one added is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, limit=settings.web.max_content_length)
    app.add_middleware(KnownHosts, bound_to=settings.web.host, hosts=settings.web.allowed_hosts)
    app.add_middleware(
        ReliabilityMiddleware,
        exempt=OBSERVERS,
        readiness=(),  # /health/ready knows itself
        intake=requests,
        name="regrow",
        drain_on_signals=drain_on_signals,
    )
    app.add_middleware(SecurityHeaders)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    looking = asyncio.create_task(_take_up_settings(app.state.reader.engine))
    yield
    looking.cancel()
    app.state.reader.close()
    app.state.intake.close()


async def _take_up_settings(engine: Engine) -> None:
    """A changed regrow.toml holds for what is shown from its next look on.

    A defect of ours in reading it is told each time and ends nothing: what was in force goes on.
    """
    while True:
        await asyncio.sleep(EVERY)
        try:
            await asyncio.to_thread(engine.refresh)
        except Exception:
            logger.exception("settings.defect", remedy="what was in force stays in force")


class _KeptFiles(StaticFiles):
    """Static files, whose address changes with their content: a browser need not ask again."""

    async def get_response(self, path: str, scope: Any) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer


async def _explain(request: Request, error: Any) -> Response:
    """A refusal as a page for browsers, as problem details for everybody else."""
    if "text/html" in request.headers.get("accept", ""):
        return page(
            request, "refusal.html", {"refusal": error}, status=error.status_code, headers=error.headers
        )
    return problem(error.status_code, error.detail, error.headers)


async def _explain_input(_request: Request, error: Any) -> Response:
    told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return problem(422, told)


async def _to_sign_in(request: Request, _error: Exception) -> Response:
    return RedirectResponse(sign_in.sign_in_path(request), 303)

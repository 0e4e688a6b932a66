"""Pages: Jinja templates with escaping always on, the stylesheet's address, and how values are worded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from regrow.version import __version__
from regrow.web import wording
from regrow.web.access import Door
from regrow.web.tokens import form_token


@cache
def templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("regrow.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(wording.FILTERS)
    environment.globals.update(version=__version__, asset=asset)
    return environment


@cache
def asset(name: str) -> str:
    """The address of a static file; it changes with the content, so that browsers may keep it for good."""
    content = resources.files("regrow.web").joinpath("static", name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


def page(
    request: Request,
    template: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Render a page. Every template sees ``now``, ``profile``, ``path``, ``signed_in``, ``has_key`` and the
    ``token`` of forms."""
    engine = request.app.state.reader.engine
    door: Door = request.app.state.door
    text = (
        templates()
        .get_template(template)
        .render(
            now=engine.clock(),
            profile=engine.settings.profile,
            path=request.url.path,
            signed_in=door.signed_in(request),
            may_look=door.signed_in(request) or door.is_local(request),
            has_key=door.key is not None,
            token=form_token(request),
            **context,
        )
    )
    return HTMLResponse(text, status, dict(headers or {}))

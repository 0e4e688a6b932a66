"""``/status``: one quick look as JSON: the word, what needs attention, and the counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from regrow.version import __version__
from regrow.web.access import DetailOnly
from regrow.web.answers import TheDrain, TheReader, TheStart
from regrow.web.health import beat_word, drain_json, overall
from regrow.web.picture import Picture, take
from regrow.web.reading import Fact, Known

router = APIRouter(tags=["health"])


@router.get("/status", dependencies=[DetailOnly])
async def status(reader: TheReader, since: TheStart, drain: TheDrain) -> JSONResponse:
    """Always 200: this endpoint tells, ``/health`` judges. ``requests`` are those of this process."""
    told = {
        **_told(await take(reader, since)),
        "requests": drain.traffic().as_dict(),
        "drain": drain_json(drain),
    }
    return JSONResponse(jsonable_encoder(told))


def _told(picture: Picture) -> dict[str, Any]:
    return {
        "status": overall(picture.checks),
        "version": __version__,
        "profile": picture.profile,
        "time": picture.at,
        "uptime_seconds": (picture.at - picture.since).total_seconds(),
        "attention": picture.notices,
        "beat": beat_word(picture.checks),
        "checks": _counted(picture.checks, lambda overview: (check.word for check in overview.checks)),
        "jobs": _or_reason(picture.jobs, lambda views: {view.name: _job(view) for view in views}),
        "circuit_breakers": _counted(picture.breakers, lambda views: (view.state for view in views)),
        "dead_letters": _or_reason(picture.letters, lambda letters: letters.by_state),
    }


def _job(view: Any) -> dict[str, Any]:
    return {
        "status": view.status,
        "pace": view.pace,
        "last_run_at": view.run.started_at if view.run else None,
        "finding": view.finding,
    }


def _counted(fact: Fact[Any], words: Any) -> Any:
    return _or_reason(fact, lambda value: Counter(str(word) for word in words(value)))


def _or_reason(fact: Fact[Any], told: Any) -> Any:
    return told(fact.value) if isinstance(fact, Known) else fact.as_json()

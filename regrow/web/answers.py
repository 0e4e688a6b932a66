"""What every endpoint's function needs from the application: the reader, now, and when it began."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from regrow.drain import Drain
from regrow.web.reading import Reader


def the_reader(request: Request) -> Reader:
    reader: Reader = request.app.state.reader
    return reader


def the_start(request: Request) -> datetime:
    since: datetime = request.app.state.since
    return since


def the_drain(request: Request) -> Drain:
    drain: Drain = request.app.state.drain
    return drain


TheDrain = Annotated[Drain, Depends(the_drain)]
TheReader = Annotated[Reader, Depends(the_reader)]
TheStart = Annotated[datetime, Depends(the_start)]


class Reason(BaseModel):
    """Why something is done by hand; it goes into the audit."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=1000)] = "asked for over HTTP"

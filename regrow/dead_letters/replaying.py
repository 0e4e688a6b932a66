"""What a redrive of a Celery message cannot bring back, said before it is sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def hazards_of(headers: Mapping[str, Any], body: bytes, content_type: str, error_class: str) -> Iterator[str]:
    """A sentence for people for each; none for a message that is not Celery's."""
    if not isinstance(headers.get("task"), str) or not isinstance(headers.get("id"), str):
        return
    embed = _embedded(body, content_type)
    if embed is None:
        yield (
            "its body cannot be read here, so its callbacks cannot be completed by ours: its outcome is "
            "known only where its app has installed Regrow"
        )
    elif embed.get("chord"):
        yield (
            "it is a part of a chord: Celery gave the chord up when this part failed, so the chord's body "
            "may not run when it succeeds now; run that by hand"
        )
    if error_class.endswith(("TaskRevokedError", "TaskRevoked")):
        yield (
            f"its id {headers['id']} was revoked: workers that remember that drop it again; restart them, or "
            "send it under a new id"
        )
    if headers.get("group"):
        yield "it is a part of a group: whoever waits for the group's results may have stopped waiting"


def _embedded(body: bytes, content_type: str) -> Mapping[str, Any] | None:
    """Callbacks, chain and chord of a body of protocol 2; None when it cannot be read."""
    if content_type != "application/json":
        return None
    try:
        _, _, embed = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        return None
    if embed is None:
        return {}
    return embed if isinstance(embed, Mapping) else None

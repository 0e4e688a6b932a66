"""Looking at dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from regrow.dead_letters import store, vault
from regrow.dead_letters.rules import State
from regrow.dead_letters.store import Attempt, Body, Letter
from regrow.engine import Engine
from regrow.errors import LetterNotFoundError


@dataclass(frozen=True)
class LetterDetails:
    letter: Letter
    body: Body
    attempts: tuple[Attempt, ...]

    @property
    def text(self) -> str:
        """The body for people; bytes that are no text are shown as escapes."""
        return self.body.body.decode("utf-8", "backslashreplace")


def show(engine: Engine, letter_or_event: str) -> LetterDetails:
    """One letter with its body and every attempt; either id will do."""
    with engine.database.snapshot() as connection:
        letter_id = store.find_id(connection, letter_or_event)
        found = store.read(connection, letter_id) if letter_id else None
    if found is None:
        raise LetterNotFoundError(f"no dead letter or event has the id {letter_or_event!r}")
    return LetterDetails(*vault.open_letter(engine, *found))


def known_events(engine: Engine, event_ids: Sequence[str]) -> set[str]:
    """Which of these were captured before."""
    with engine.database.snapshot() as connection:
        return set(store.known_events(connection, event_ids))


def list_letters(
    engine: Engine,
    *,
    state: str | None = None,
    service: str | None = None,
    message_type: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> list[Letter]:
    """Newest first; ``before`` is the last id of the page before."""
    if state is not None and state not in {s.value for s in State}:
        raise LetterNotFoundError(f"no such state: {state!r}. There are {', '.join(State)}.")
    with engine.database.snapshot() as connection:
        found = store.page(
            connection,
            state=State(state) if state else None,
            service=service,
            message_type=message_type,
            limit=max(1, min(limit, 1_000)),
            before=before,
        )
    return [_unsaid(letter) for letter in found]


def _unsaid(letter: Letter) -> Letter:
    """A letter in a list: what is sealed needs no key to be listed."""
    if letter.data_key is None:
        return letter
    return replace(letter, error_message="(sealed)", traceback=None)


def counts(engine: Engine) -> dict[str, int]:
    """Letters by state; every state is named."""
    with engine.database.snapshot() as connection:
        return store.counts(connection)


def oldest_pending(engine: Engine) -> datetime | None:
    """When the oldest letter that is not settled failed first; None when all are settled."""
    with engine.database.snapshot() as connection:
        return store.oldest_unsettled(connection)


def flow(engine: Engine, since: datetime, until: datetime) -> dict[str, int]:
    """Events captured, letters resolved and discarded, in [since, until)."""
    with engine.database.snapshot() as connection:
        return store.flow(connection, since, until)

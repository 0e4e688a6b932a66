"""Looking at dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from regrow import audit
from regrow.dead_letters import listing, store, vault
from regrow.dead_letters.replaying import hazards_of
from regrow.dead_letters.rules import State
from regrow.dead_letters.store import Attempt, Body, Letter
from regrow.engine import Engine
from regrow.errors import (
    KeyUnavailableError,
    LetterNotFoundError,
    RouteError,
    TransitionRefusedError,
)
from regrow.redaction import Redactor


@dataclass(frozen=True)
class LetterDetails:
    """``size``: the bytes of the body as it is kept, whatever is shown of it. ``hazards``: what a redrive of
    this message cannot bring back, a sentence for each."""

    letter: Letter
    body: Body
    attempts: tuple[Attempt, ...]
    size: int
    hazards: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The body for people; bytes that are no text are shown as escapes."""
        return self.body.body.decode("utf-8", "backslashreplace")


def show(engine: Engine, letter_or_event: str) -> LetterDetails:
    """One letter as it is, with its body and every attempt; either id will do. Not for people's eyes.

    LetterNotFoundError. KeyUnavailableError: it is sealed with a key that is not here.
    """
    letter, body, attempts = vault.open_letter(engine, *_read(engine, letter_or_event))
    return LetterDetails(letter, body, attempts, len(body.body), _hazards(letter, body))


def show_redacted(engine: Engine, letter_or_event: str) -> LetterDetails:
    """One letter for people: what looks secret is hidden, what cannot be redacted or opened is withheld."""
    letter, body, attempts = _read(engine, letter_or_event)
    try:
        letter, body, opened = vault.open_letter(engine, letter, body, attempts)
    except (KeyUnavailableError, RouteError) as error:
        why = f"(withheld: {error})"
        return LetterDetails(
            replace(letter, error_message=why, traceback=None),
            replace(body, body=why.encode(), headers={}),
            tuple(replace(one, error=None if one.error is None else why) for one in attempts),
            len(body.body),
        )
    redactor = redactor_of(engine)
    shown = "" if letter.erased_at else redactor.body(body.body, body.content_type)
    return LetterDetails(
        _redacted(redactor, letter),
        replace(body, body=shown.encode("utf-8", "backslashreplace"), headers=redactor.headers(body.headers)),
        tuple(replace(one, error=one.error and redactor.text(one.error)) for one in opened),
        len(body.body),
        _hazards(letter, body),
    )


def show_raw(engine: Engine, letter_or_event: str, *, actor: str, reason: str) -> LetterDetails:
    """:func:`show` for a person who has a reason; nothing is shown before the audit has it."""
    if not reason.strip():
        raise TransitionRefusedError("to see a dead letter unredacted needs a reason; say why")
    found = show(engine, letter_or_event)
    engine.database.run(
        lambda connection: audit.write(
            connection,
            at=engine.clock(),
            actor=actor,
            act="dead_letter.raw_view",
            subject=found.letter.id,
            reason=reason,
        )
    )
    return found


def _hazards(letter: Letter, body: Body) -> tuple[str, ...]:
    if letter.erased_at is not None:
        return ()
    return tuple(hazards_of(body.headers, body.body, body.content_type, letter.error_class))


def redactor_of(engine: Engine) -> Redactor:
    chosen = engine.settings.dead_letters
    return Redactor(chosen.redact, emails=chosen.redact_emails)


def _redacted(redactor: Redactor, letter: Letter) -> Letter:
    return replace(
        letter,
        idempotency_key=redactor.text(letter.idempotency_key),
        error_message=redactor.text(letter.error_message),
        traceback=letter.traceback and redactor.text(letter.traceback),
        reason=letter.reason and redactor.text(letter.reason),
    )


def _read(engine: Engine, letter_or_event: str) -> tuple[Letter, Body, list[Attempt]]:
    with engine.database.snapshot() as connection:
        letter_id = store.find_id(connection, letter_or_event)
        found = store.read(connection, letter_id) if letter_id else None
    if found is None:
        raise LetterNotFoundError(f"no dead letter or event has the id {letter_or_event!r}")
    return found


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
    """Newest first, redacted; ``before`` is the last id of the page before. What is sealed stays sealed."""
    if state is not None and state not in {s.value for s in State}:
        raise LetterNotFoundError(f"no such state: {state!r}. There are {', '.join(State)}.")
    with engine.database.snapshot() as connection:
        found = listing.page(
            connection,
            state=State(state) if state else None,
            service=service,
            message_type=message_type,
            limit=max(1, min(limit, 1_000)),
            before=before,
        )
    redactor = redactor_of(engine)
    return [_redacted(redactor, _unsaid(letter)) for letter in found]


def _unsaid(letter: Letter) -> Letter:
    """A letter in a list: what is sealed needs no key to be listed."""
    if letter.data_key is None:
        return letter
    return replace(letter, error_message="(sealed)", traceback=None)


def counts(engine: Engine) -> dict[str, int]:
    """Letters by state; every state is named."""
    with engine.database.snapshot() as connection:
        return listing.counts(connection)


def oldest_pending(engine: Engine) -> datetime | None:
    """When the oldest letter that is not settled failed first; None when all are settled."""
    with engine.database.snapshot() as connection:
        return listing.oldest_unsettled(connection)


def flow(engine: Engine, since: datetime, until: datetime) -> dict[str, int]:
    """Events captured, letters resolved and discarded, in [since, until)."""
    with engine.database.snapshot() as connection:
        return listing.flow(connection, since, until)

"""What a letter says, sealed on its way into the database and opened on its way out.

Sealed are body, headers, error message, traceback and the errors of redrives; what lists, searches and the
redrive go by (ids, service, type, task, error class, times) is not. Without a key all is kept as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from regrow.database.tables import dead_letters
from regrow.dead_letters import data_keys, sealing
from regrow.dead_letters.data_keys import DIGEST_ID, DIGESTS, DataKey, Scope
from regrow.dead_letters.keyring import KeyRing, missing, ring
from regrow.dead_letters.sealing import Seal, SealBrokenError
from regrow.dead_letters.store import Attempt, Body, Leased, Letter, SealedError
from regrow.engine import Engine
from regrow.errors import KeyUnavailableError, RouteError
from regrow.ids import uuid7

logger = structlog.get_logger(__name__)

Row = dict[str, Any]
_HEADERS = "sealed"


def seal_new(
    engine: Engine,
    connection: sa.Connection,
    rows: Mapping[str, Row],
    bodies: Iterable[Row],
    subjects: Mapping[str, str],
) -> None:
    """Seal new letters and their bodies in place, before they are inserted.

    Each row's ``subject`` becomes its digest; ``subjects`` are those that are known already, by letter id.
    ``digest`` and ``data_key`` are added. KeyUnavailableError:
    a key is set and cannot be used; nothing is to be kept in plain then.
    """
    held = ring(engine)
    if held is None:
        _digest_subjects(None, rows, subjects)
        for body in bodies:
            digest = f"sha256:{hashlib.sha256(body['body']).hexdigest()}"
            rows[body["letter_id"]] |= {"data_key": None, "digest": digest}
        return
    maker = _digest_key(engine, connection, held)
    _digest_subjects(maker, rows, subjects)
    scopes = {(row["service"], row["subject"]) for row in rows.values()}
    keys = {scope: _unwrapped(held, key) for scope, key in _keys(engine, connection, held, scopes).items()}
    for body in bodies:
        row = rows[body["letter_id"]]
        data_key_id, data_key = keys[row["service"], row["subject"]]
        row |= {"data_key": data_key_id, "digest": sealing.digest(maker, "body", body["body"])}
        _seal(Seal(data_key, row["id"]), row, body)


def _digest_subjects(maker: bytes | None, rows: Mapping[str, Row], known: Mapping[str, str]) -> None:
    for letter_id, row in rows.items():
        plain = row["subject"]
        row["subject"] = known.get(letter_id) or (subject_digest(maker, plain) if plain else "")


def _seal(seal: Seal, row: Row, body: Row) -> None:
    if row["reason"] and row["error_message"]:  # poison says its error as the reason
        row["reason"] = row["reason"].replace(row["error_message"], "(sealed)")
    row["error_message"] = seal.seal_text("error_message", row["error_message"])
    if row["traceback"] is not None:
        row["traceback"] = seal.seal_text("traceback", row["traceback"])
    body["body"] = seal.seal("body", body["body"])
    body["headers"] = {_HEADERS: seal.seal_text("headers", json.dumps(body["headers"]))}


def subject_digest(maker: bytes | None, subject: str) -> str:
    """What is kept of a subject: with a key nobody can guess it from this; without, it still is no name."""
    if maker is None:
        return f"sha256:{hashlib.sha256(subject.encode()).hexdigest()}"
    return sealing.digest(maker, "subject", subject.encode())


def subject_digests(engine: Engine, connection: sa.Connection, subject: str) -> list[str]:
    """Every form in which a subject may stand in the tables."""
    held = ring(engine)
    plain = [subject_digest(None, subject)]
    return [*plain, subject_digest(_digest_key(engine, connection, held), subject)] if held else plain


def seal_error(
    engine: Engine, connection: sa.Connection, letter_id: str, token: str, error: str | None
) -> str | SealedError | None:
    """The error of a redrive as it is to be kept.

    An outcome is worth more than its error: when there is no key to seal it with, the error is left out.
    """
    if error is None:
        return None
    try:
        held = ring(engine)
        if held is None:
            return error
        columns = dead_letters.c
        query = sa.select(columns.service, columns.subject).where(columns.id == letter_id)
        scope = connection.execute(query).one_or_none()
        if scope is None:
            return None
        [(data_key_id, data_key)] = [
            _unwrapped(held, key)
            for key in _keys(engine, connection, held, {(scope.service, scope.subject)}).values()
        ]
    except KeyUnavailableError as trouble:
        logger.warning("letter.error_withheld", letter=letter_id, reason=str(trouble))
        return "(withheld: there was no key to seal it with)"
    return SealedError(Seal(data_key, letter_id).seal_text(f"attempt {token}", error), data_key_id)


def opened(engine: Engine, leased: Leased) -> Leased:
    """A leased letter with what it says, to be sent home.

    KeyUnavailableError: later, when its key is there. RouteError: never, it was erased or changed.
    """
    letter, body = leased.letter, leased.body
    if letter.data_key is None:
        return leased
    with engine.database.snapshot() as connection:
        found = data_keys.by_ids(connection, {letter.data_key})
    seal = _seal_of(engine, found.get(letter.data_key), letter.id)
    if seal is None or letter.erased_at is not None:
        raise RouteError("what this letter said was erased")
    try:
        error = seal.open_text("error_message", letter.error_message)
        return Leased(replace(letter, error_message=error), _opened_body(seal, body))
    except SealBrokenError as broken:
        raise _changed(letter.id) from broken


def open_letter(
    engine: Engine, letter: Letter, body: Body, attempts: Sequence[Attempt]
) -> tuple[Letter, Body, tuple[Attempt, ...]]:
    """A letter with all that was sealed of it, opened; what was erased is empty, and ``erased_at`` says so.

    KeyUnavailableError: the key is missing or wrong. RouteError: it was changed since it was sealed.
    """
    named = (letter.data_key, *(one.data_key for one in attempts))
    ids = {data_key for data_key in named if data_key is not None}
    if not ids:
        return letter, body, tuple(attempts)
    with engine.database.snapshot() as connection:
        found = data_keys.by_ids(connection, ids)
    seals = {data_key_id: _seal_of(engine, found.get(data_key_id), letter.id) for data_key_id in ids}
    try:
        return (
            *_opened(letter, body, found, seals),
            tuple(_opened_attempt(one, seals) for one in attempts),
        )
    except SealBrokenError as error:
        raise _changed(letter.id) from error


def _changed(letter_id: str) -> RouteError:
    return RouteError(f"letter {letter_id} was changed after it was sealed; it cannot be trusted")


def _opened(
    letter: Letter, body: Body, found: Mapping[str, DataKey], seals: Mapping[str, Seal | None]
) -> tuple[Letter, Body]:
    if letter.data_key is None:
        return letter, body
    seal = seals[letter.data_key]
    if seal is None or letter.erased_at is not None:
        erased = found.get(letter.data_key)
        at = letter.erased_at or (erased.erased_at if erased else None) or letter.created_at
        return (
            replace(letter, error_message="", traceback=None, erased_at=at),
            replace(body, body=b"", headers={}),
        )
    trace = letter.traceback
    return (
        replace(
            letter,
            error_message=seal.open_text("error_message", letter.error_message),
            traceback=None if trace is None else seal.open_text("traceback", trace),
        ),
        _opened_body(seal, body),
    )


def _opened_body(seal: Seal, body: Body) -> Body:
    headers = json.loads(seal.open_text("headers", body.headers[_HEADERS]))
    return replace(body, body=seal.open("body", body.body), headers=headers)


def _opened_attempt(attempt: Attempt, seals: Mapping[str, Seal | None]) -> Attempt:
    if attempt.data_key is None or attempt.error is None:
        return attempt
    seal = seals[attempt.data_key]
    text = "(erased)" if seal is None else seal.open_text(f"attempt {attempt.token}", attempt.error)
    return replace(attempt, error=text)


def _seal_of(engine: Engine, key: DataKey | None, letter_id: str) -> Seal | None:
    """None: the key was destroyed."""
    if key is None or key.wrapped is None:
        return None
    held = ring(engine)
    if held is None:
        raise missing(key.key_id)
    return Seal(held.unwrap(key.id, key.key_id, key.wrapped), letter_id)


def _keys(
    engine: Engine, connection: sa.Connection, held: KeyRing, scopes: set[Scope]
) -> dict[Scope, DataKey]:
    """A data key for every scope; new ones are made in the caller's transaction."""
    found = data_keys.usable(connection, scopes)
    now = engine.clock()
    fresh = {scope: _new(held, scope, now) for scope in sorted(scopes - found.keys())}
    data_keys.add(connection, fresh.values())
    return found | fresh


def _new(held: KeyRing, scope: Scope, now: datetime) -> DataKey:
    key_id = DIGEST_ID if scope == DIGESTS else uuid7(now)
    wrapped = held.wrap(key_id, sealing.new_key())
    return DataKey(key_id, *scope, held.current, wrapped, now, None)


def _digest_key(engine: Engine, connection: sa.Connection, held: KeyRing) -> bytes:
    """IntegrityError: another process has just made it; ours begins again and finds it."""
    _, key = _unwrapped(held, _keys(engine, connection, held, {DIGESTS})[DIGESTS])
    return key


def _unwrapped(held: KeyRing, key: DataKey) -> tuple[str, bytes]:
    if key.wrapped is None:
        raise AssertionError("an erased key is not usable")
    return key.id, held.unwrap(key.id, key.key_id, key.wrapped)

"""Keys of dead letters over time: proven at the start, rotated, and destroyed when data must go for good."""

from __future__ import annotations

from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from regrow import audit
from regrow.database.tables import data_keys as data_keys_table
from regrow.database.tables import dead_letter_attempts, dead_letter_bodies, dead_letters
from regrow.dead_letters import archives, data_keys, store, vault
from regrow.dead_letters.keyring import KeyRing, load, load_spool_keys, missing, ring
from regrow.dead_letters.retention import archive_folder
from regrow.dead_letters.rules import UNSETTLED, Next, State
from regrow.engine import Engine
from regrow.errors import SettingsError, TransitionRefusedError

logger = structlog.get_logger(__name__)

_CHUNK = 200
letters = dead_letters.c


def prove_keys(engine: Engine) -> None:
    """Say once, at the start of a worker, whether letters are sealed, and that the keys are the right ones.

    SettingsError: a key file is not usable. KeyUnavailableError: letters are sealed with a key that is
    missing or not the one that its file holds.
    """
    held = load(engine.settings)
    load_spool_keys(engine.settings)
    with engine.database.snapshot() as connection:
        samples = data_keys.samples(connection)
    if held is None:
        if samples:
            raise missing(samples[0].key_id)
        logger.warning("letters.plain", remedy="set [dead_letters.keys] to seal what dead letters say")
        return
    for key in samples:
        held.unwrap(key.id, key.key_id, key.wrapped or b"")
    logger.info(
        "letters.sealed", current=held.current, others=[one for one in held.keys if one != held.current]
    )


def rotate_keys(engine: Engine) -> dict[str, Any]:
    """Wrap every data key by the current key, in batches; returns ``rewrapped`` and ``wrapped_by`` counts.

    What is sealed stays as it is. Stopped anywhere, it goes on where it was. KeyUnavailableError: an older
    key is needed and missing. SettingsError: no key is set.
    """
    held = ring(engine)
    if held is None:
        raise SettingsError("no key is set: name key files in [dead_letters.keys], the current one first")
    rewrapped = 0
    while went := engine.database.run(partial(_rewrap, held=held)):
        rewrapped += went
    with engine.database.snapshot() as connection:
        return {"rewrapped": rewrapped, "wrapped_by": data_keys.counts(connection)}


def _rewrap(connection: sa.Connection, held: KeyRing) -> int:
    some = data_keys.wrapped_by_others(connection, held.current, _CHUNK)
    for key in some:
        plain = held.unwrap(key.id, key.key_id, key.wrapped or b"")
        data_keys.rewrap(connection, key.id, held.current, held.wrap(key.id, plain))
    return len(some)


def erase(
    engine: Engine,
    *,
    service: str | None = None,
    subject: str | None = None,
    actor: str,
    reason: str,
    force: bool = False,
) -> dict[str, Any]:
    """Destroy for good what letters of a service, of a subject, or of both together say. Audited.

    The letters' rows stay, marked erased. Sealed ones become unreadable everywhere, archives included.
    ``force`` discards those that are not settled; without it they are a reason to refuse.

    Returns ``discarded``, ``keys`` destroyed, ``letters`` erased, and ``plain_in_archives``: archives with
    letters of it that were never sealed, which no key can erase. TransitionRefusedError: nobody named,
    no reason, or letters that are not settled.
    """
    if not (service or subject):
        raise TransitionRefusedError("name a service or a subject to erase")
    if not reason.strip():
        raise TransitionRefusedError("to erase needs a reason; say who asked for it")
    with engine.database.snapshot() as connection:
        subjects = vault.subject_digests(engine, connection, subject) if subject else None
    mine = _of(letters.service, letters.subject, service, subjects)
    discarded = _discard_live(engine, mine, actor, reason) if force else 0

    def destroy(connection: sa.Connection) -> int:
        # First the keys, locked: whoever is sealing with one has committed, and is counted below.
        scope = _of(data_keys_table.c.service, data_keys_table.c.subject, service, subjects)
        gone = data_keys.erase(
            connection, sa.and_(scope, data_keys_table.c.id != data_keys.DIGEST_ID), engine.clock()
        )
        live = connection.execute(
            sa.select(sa.func.count()).where(mine, letters.state.in_(UNSETTLED)).select_from(dead_letters)
        ).scalar_one()
        if live:
            raise TransitionRefusedError(
                f"{live} letters of it are not settled and could not be sent home any more: settle them, "
                "or discard them with it (force)"
            )
        audit.write(
            connection,
            at=engine.clock(),
            actor=actor,
            act="dead_letters.erase",
            subject=service or (subjects or [""])[-1],
            reason=reason,
            details={"service": service, "subjects": subjects, "keys": gone, "discarded": discarded},
        )
        return gone

    keys = engine.database.run(destroy)
    erased, until_now = 0, sa.and_(mine, letters.created_at <= engine.clock())
    while went := engine.database.run(lambda connection: _blank(engine, connection, until_now)):
        erased += went
    return {
        "discarded": discarded,
        "keys": keys,
        "letters": erased,
        "plain_in_archives": _plain_in_archives(engine, service, subjects),
    }


def _of(
    of_service: sa.ColumnElement[str],
    of_subject: sa.ColumnElement[str],
    service: str | None,
    subjects: list[str] | None,
) -> sa.ColumnElement[bool]:
    wanted = [of_service == service] if service else []
    return sa.and_(*wanted, *([of_subject.in_(subjects)] if subjects else []))


def _discard_live(engine: Engine, mine: sa.ColumnElement[bool], actor: str, reason: str) -> int:
    def some(connection: sa.Connection) -> int:
        query = sa.select(letters.id).where(mine, letters.state.in_(UNSETTLED)).limit(_CHUNK)
        ids = list(connection.execute(query).scalars())
        for letter_id in ids:
            letter = store.locked(connection, letter_id)
            if letter is None or letter.state not in UNSETTLED:
                continue
            now = engine.clock()
            store.move(connection, letter, Next(State.DISCARDED, reason=f"erased: {reason}"), now=now)
            audit.write(
                connection,
                at=now,
                actor=actor,
                act="dead_letter.discard",
                subject=letter.id,
                reason=f"erased: {reason}",
                details={"was": letter.state, "attempts": letter.attempts},
            )
        return len(ids)

    discarded = 0
    while went := engine.database.run(some):
        discarded += went
    return discarded


def _blank(engine: Engine, connection: sa.Connection, mine: sa.ColumnElement[bool]) -> int:
    """Empty the rows too: those that were never sealed have no key to destroy."""
    query = (
        sa.select(letters.id)
        .where(mine, letters.erased_at.is_(None), letters.state.not_in(UNSETTLED))
        .limit(_CHUNK)
        .with_for_update()
    )
    ids = list(connection.execute(query).scalars())
    if ids:
        bodies, attempts = dead_letter_bodies.c, dead_letter_attempts.c
        empty = {"error_message": "", "traceback": None, "digest": None, "erased_at": engine.clock()}
        connection.execute(sa.update(dead_letters).where(letters.id.in_(ids)).values(empty))
        connection.execute(
            sa.update(dead_letter_bodies).where(bodies.letter_id.in_(ids)).values(body=b"", headers={})
        )
        connection.execute(
            sa.update(dead_letter_attempts)
            .where(attempts.letter_id.in_(ids), attempts.error.is_not(None))
            .values(error="(erased)", data_key=None)
        )
    return len(ids)


def _plain_in_archives(engine: Engine, service: str | None, subjects: list[str] | None) -> list[str]:
    """The ids of archives on this machine that hold letters of it which were not sealed."""
    folder = archive_folder(engine.settings)
    found = []
    for path in archives.whole_files(folder) if folder else ():
        for line in archives.letters(path):
            letter = line["letter"]
            mine = (service is None or letter["service"] == service) and (
                subjects is None or letter.get("subject") in subjects
            )
            if mine and letter.get("data_key") is None and letter.get("erased_at") is None:
                found.append(archives.id_of(path))
                break
    return found

"""Cleaning and counting the declared roots."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow.errors import SettingsError
from regrow.temp_files import open_files
from regrow.temp_files.cleaning import Outcome, Run, clean_root
from regrow.temp_files.open_files import Identity
from regrow.temp_files.rules import Policy
from regrow.temp_files.walk import open_root, walk

if TYPE_CHECKING:  # `regrow health temp-files` counts files without loading a database driver
    from regrow.engine import Engine
    from regrow.settings import TempFileRoot

_SHARE_OF_TIME = 0.7
"""Of the task's soft time limit; a run that does not finish goes on at the next one."""


@dataclass(frozen=True)
class Usage:
    """What lies under one root. ``complete`` is False when time ran out before all was counted."""

    path: str
    bytes: int
    files: int
    complete: bool = True
    error: str | None = None


def clean(engine: Engine, *, dry_run: bool | None = None, only: Path | None = None) -> dict[str, Any]:
    """Clean all declared roots, or ``only`` that one; returns a summary in JSON values.

    ``dry_run`` None takes ``temp_files.dry_run``; a dry run counts what would go and removes nothing.
    Keys: ``dry_run``, ``removed``, ``freed_bytes``, ``left_bytes``, ``errors`` (how many), ``over`` (roots
    whose quota could not be kept), ``finished``, ``roots`` (each
    with its counts, reasons for keeping, and errors), and ``note`` when no roots are declared.
    """
    settings = engine.settings.temp_files
    dry = settings.dry_run if dry_run is None else dry_run
    if not settings.roots:
        return {"note": "no roots declared", "dry_run": dry, **_totals([])}
    budget = _SHARE_OF_TIME * engine.settings.celery.task_soft_time_limit
    run = Run(
        open_files=open_files.scan(),
        roots=_identities(root.path for root in settings.roots),
        now=engine.clock().timestamp(),
        deadline=time.monotonic() + budget,
        dry=dry,
    )
    chosen = [root for root in settings.roots if only is None or _absolute(root.path) == _absolute(only)]
    if not chosen:
        raise SettingsError(f"{only} is not among temp_files.roots; declare it, or name one of those.")
    outcomes = [clean_root(_absolute(root.path), _policy(root), run) for root in chosen]
    if not dry:
        _count(engine, outcomes)
    return {
        "dry_run": dry,
        **_totals(outcomes),
        "sees_all_open_files": run.open_files.complete,
        "roots": [outcome.as_dict() for outcome in outcomes],
    }


def usage(roots: Iterable[TempFileRoot], *, deadline: float | None = None) -> list[Usage]:
    """Bytes and files under each root, counted until ``deadline`` (seconds on the monotonic clock)."""
    return [_usage(_absolute(root.path), deadline) for root in roots]


def _usage(path: Path, deadline: float | None) -> Usage:
    errors: list[str] = []
    total = files = 0
    try:
        root = open_root(path)
    except OSError as error:
        return Usage(str(path), 0, 0, error=error.strerror or str(error))
    try:
        for folder in walk(root, lambda where, trouble: errors.append(f"{where}: {trouble}")):
            regular = [entry.told.st_size for entry in folder.entries if entry.is_regular]
            total, files = total + sum(regular), files + len(regular)
            if deadline is not None and time.monotonic() > deadline:
                return Usage(str(path), total, files, complete=False)
    finally:
        os.close(root)
    return Usage(str(path), total, files, error=errors[0] if errors else None)


def _totals(outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "scanned": sum(outcome.scanned for outcome in outcomes),
        "removed": sum(outcome.removed for outcome in outcomes),
        "freed_bytes": sum(outcome.freed for outcome in outcomes),
        "left_bytes": sum(outcome.left for outcome in outcomes),
        "over": sum(bool(outcome.over) for outcome in outcomes),
        "errors": sum(outcome.error_count for outcome in outcomes),
        "finished": all(outcome.finished for outcome in outcomes),
    }


def _policy(root: TempFileRoot) -> Policy:
    return Policy(
        root.max_age,
        max_bytes=root.max_bytes,
        max_files=root.max_files,
        min_free=root.min_free,
        ages=tuple(root.ages.items()),
        patterns=root.patterns,
        keep=root.keep,
    )


def _count(engine: Engine, outcomes: list[Outcome]) -> None:
    """For the metrics."""
    from regrow import counters
    from regrow.tallies import field_of

    counts = {}
    for outcome in outcomes:
        for why, number in outcome.removed_for.items():
            counts[field_of("temp_files_removed_total", {"root": outcome.path, "reason": why})] = number
        if outcome.freed:
            counts[field_of("temp_files_freed_bytes_total", {"root": outcome.path})] = outcome.freed
    counters.add_up(engine, counts)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a root that is a link


def _identities(paths: Iterable[Path]) -> frozenset[Identity]:
    found = set()
    for path in paths:
        try:
            told = path.stat(follow_symlinks=False)
        except OSError:
            continue  # reported when its turn comes
        found.add((told.st_dev, told.st_ino))
    return frozenset(found)

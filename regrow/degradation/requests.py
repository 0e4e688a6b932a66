"""What becomes of a request at the level that holds: served, turned away, or answered in its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regrow.degradation.levels import Level
from regrow.degradation.permits import PATHS, PERMITS, Kind, PathKinds, Permits, checked
from regrow.degradation.process import process_watch
from regrow.degradation.state import Policy
from regrow.degradation.watch import Watch
from regrow.errors import SettingsError
from regrow.log_events import EventLog
from regrow.tallies import tallies

log = EventLog("regrow.degradation")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said instead of calling the application: a page, an empty list, the menu of yesterday."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    reason: str = "OK"

    @classmethod
    def json(cls, value: Any) -> Answer:
        """An answer of this JSON value."""
        return cls(json.dumps(value).encode())

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("content-type", self.content_type),
            ("content-length", str(len(self.body))),
            ("cache-control", "no-store"),
        ]


class Paths:
    """Which requests are served at which level.

    ``paths``: prefix, with or without a method, to kind (``{"/export": "extra", "POST /search": "read"}``),
    beside those of ``[degradation.paths]``; ``permits``: level to kinds, instead of
    ``[degradation.permits]``. ``answers``: prefix to :class:`Answer`, for GET and HEAD that would be turned
    away. ``retry_after``: seconds told to who is. SettingsError for a path, kind or level that cannot be.
    """

    def __init__(
        self,
        paths: Mapping[str, str] | None = None,
        *,
        permits: Mapping[str, tuple[str, ...]] | None = None,
        answers: Mapping[str, Answer] | None = None,
        retry_after: float = 30.0,
        watch: Watch | None = None,
    ) -> None:
        self.retry_after = retry_after
        self._own = dict(paths or {})
        self._own_permits = None if permits is None else checked(permits)
        told = answers or {}
        if wrong := [path for path in told if not path.startswith("/")]:
            raise SettingsError(f"answer for {wrong[0]!r}: begin the path with a slash, as requests do")
        self._answers = sorted(
            ((path.rstrip("/"), answer) for path, answer in told.items()),
            key=lambda rule: len(rule[0]),
            reverse=True,
        )
        self._watch = watch
        self._policy: Policy | None = None
        self._kinds = PathKinds({**PATHS, **self._own})
        self._permits: Permits = self._own_permits or PERMITS
        self.watch.start_ahead()

    @property
    def watch(self) -> Watch:
        """Where the level is heard: this process's."""
        return self._watch or process_watch()

    def refuses(self, method: str, path: str) -> Answer | float | None:
        """None: served. Else the answer, or the seconds after which to come again. No I/O."""
        watch = self.watch
        level = watch.level()
        if watch.policy is not self._policy:
            self._adopt(watch.policy)
        permitted = self._permits[level]
        if level is Level.NORMAL and len(permitted) == len(Kind):
            return None
        kind = self._kinds.of(method, path)
        if kind in permitted:
            return None
        tallies.count("degradation_refused_total", feature=f"paths:{kind}")
        if method in {"GET", "HEAD"}:
            for prefix, answer in self._answers:
                if path == prefix or path.startswith(prefix + "/"):
                    return answer
        return self.retry_after

    def _adopt(self, policy: Policy) -> None:
        """Go by what the worker tells now, as far as the application says nothing else."""
        self._policy = policy
        try:
            self._kinds = PathKinds({**(policy.paths or PATHS), **self._own})
            self._permits = self._own_permits or checked(policy.permits or PERMITS)
        except SettingsError as error:  # of a version that knows more
            log.warning("degradation.policy_refused", error=str(error))

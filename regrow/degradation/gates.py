"""Switching parts of an application off by level: a decorator, a question, and features by name."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from regrow.degradation.levels import Level, named
from regrow.degradation.process import process_watch
from regrow.errors import DegradedError, SettingsError
from regrow.fallbacks import instead
from regrow.tallies import tallies

F = TypeVar("F", bound=Callable[..., Any])

_NOTHING = object()


class Feature:
    """A part of the application that is on up to a level, and off when it is worse.

    >>> exports = Feature("exports", "minor")
    >>> exports.on
    True

    ``worst``: None takes what ``[degradation.features]`` of ``regrow.toml`` says of the name, and normal
    where it says nothing: what nobody spoke for goes first.
    """

    def __init__(self, name: str, worst: str | None = None) -> None:
        self.name = name
        self._worst = None if worst is None else named(worst)

    @property
    def worst(self) -> Level:
        """The worst level at which it is on."""
        if self._worst is not None:
            return self._worst
        return _declared(self.name)

    @property
    def on(self) -> bool:
        """Whether it is on at the moment; no I/O."""
        return process_watch().level() <= self.worst

    def check(self) -> None:
        """DegradedError when it is off."""
        level = process_watch().level()
        worst = self.worst
        if level > worst:
            tallies.count("degradation_refused_total", feature=self.name)
            raise DegradedError(self.name, level, worst)

    async def check_async(self) -> None:
        """:meth:`check`; a process that has just begun waits for its first look, and the loop goes on."""
        watch = process_watch()
        if not watch.looked:
            await asyncio.to_thread(watch.wait_for_first_look)
        self.check()

    def requires(self, fn: F | None = None, /, *, fallback: Any = _NOTHING) -> Any:
        """Decorate a function or a coroutine function: it runs while the feature is on."""
        if fn is None:
            return functools.partial(self.requires, fallback=fallback)
        process_watch().start_ahead()
        return (
            _guarded_async(self, fn, fallback)
            if inspect.iscoroutinefunction(fn)
            else _guarded(self, fn, fallback)
        )

    def __repr__(self) -> str:
        return f"<Feature {self.name!r}, on up to {self.worst}>"


@overload
def requires(worst: str, *, feature: str | None = None, fallback: Any = ...) -> Callable[[F], F]: ...
@overload
def requires(*, feature: str, fallback: Any = ...) -> Callable[[F], F]: ...
def requires(
    worst: str | None = None, *, feature: str | None = None, fallback: Any = _NOTHING
) -> Callable[[F], F]:
    """Decorate a function or a coroutine function: it runs while the level is ``worst`` or better.

    Else DegradedError, or what ``fallback`` answers: a value, a function of the error, a
    :func:`regrow.fallback_for`. ``feature``: its name in errors and counts (default: the function's); without
    ``worst``, ``[degradation.features]`` of ``regrow.toml`` says up to which level it is on.
    SettingsError for a level that there is not.
    """
    if worst is None and feature is None:
        raise SettingsError('say up to which level, @requires("minor"), or of which feature')

    def decorate(fn: F) -> F:
        name = feature or str(getattr(fn, "__qualname__", fn))
        decorated: F = Feature(name, worst).requires(fn, fallback=fallback)
        return decorated

    if worst is not None:
        named(worst)
    return decorate


def allows(feature: str, worst: str | None = None) -> bool:
    """Whether a feature is on at the moment; ``worst`` as for :class:`Feature`. No I/O."""
    return Feature(feature, worst).on


def _guarded(feature: Feature, fn: Callable[..., Any], fallback: Any) -> Callable[..., Any]:
    @functools.wraps(fn)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            feature.check()
        except DegradedError as error:
            if fallback is _NOTHING:
                raise
            return instead(fallback, error, feature.name, (args, kwargs))
        return fn(*args, **kwargs)

    return guarded


def _guarded_async(feature: Feature, fn: Callable[..., Any], fallback: Any) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            await feature.check_async()
        except DegradedError as error:
            if fallback is _NOTHING:
                raise
            answer = instead(fallback, error, feature.name, (args, kwargs))
            return await answer if inspect.isawaitable(answer) else answer
        return await fn(*args, **kwargs)

    return guarded


def _declared(name: str) -> Level:
    told = process_watch().policy.features.get(name)
    return Level.NORMAL if told is None else Level(told)

"""A function of yours, plain or a coroutine function, called with the arguments that the settings name.

It may return

* nothing or True: healthy; False: unhealthy;
* a status: ``"healthy"``, ``"degraded"``, ``"unhealthy"`` or ``"unknown"``;
* a mapping with a ``status``, and if it likes a ``message`` and ``data`` (JSON values);
* a :class:`regrow.health.rules.Finding`.

What it raises makes the check *unknown*: it could not be made. So does anything else that it returns.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from regrow.health.rules import STATUSES, Finding, finding
from regrow.settings import Settings
from regrow.settings.checks import PythonCheck

DATA_LIMIT = 16_384
"""Characters of JSON; larger data are left out."""


def probe(check: PythonCheck, settings: Settings) -> Finding:
    del settings
    try:
        function = load(check.function)
    except (ImportError, AttributeError, TypeError) as error:
        return finding("unknown", f"{check.function} cannot be loaded: {error}")
    try:
        found = function(**check.arguments)
        if inspect.isawaitable(found):
            found = asyncio.run(_bounded(found, 0.9 * check.timeout))
    except TimeoutError:
        return finding("unhealthy", f"{check.function} did not end within {0.9 * check.timeout:.1f} s")
    return verdict(check.function, found)


def verdict(name: str, found: Any) -> Finding:
    """What the function returned, as a finding."""
    match found:
        case Finding():
            return _safe(found.status, found.message, found.data)
        case None | True:
            return finding("healthy", f"{name} found nothing wrong")
        case False:
            return finding("unhealthy", f"{name} said no")
        case str() if found in STATUSES:
            return _safe(found, f"{name} said so", {})
        case Mapping() if found.get("status") in STATUSES and isinstance(found.get("data", {}), Mapping):
            return _safe(found["status"], str(found.get("message", f"{name} said so")), found.get("data", {}))
    said = f"{name} returned {type(found).__name__}, which is none of what a check may return"
    return finding("unknown", f"{said}: see docs/health.md")


def load(name: str) -> Callable[..., Any]:
    """The function ``package.module:function``. ImportError, AttributeError or TypeError when it is none."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        msg = "it is no function"
        raise TypeError(msg)
    function: Callable[..., Any] = found
    return function


def _safe(status: Any, message: str, data: Mapping[str, Any]) -> Finding:
    """Data must be JSON and not too much: one check's must not keep all results from being written."""
    try:
        text = json.dumps(dict(data), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        return finding(status, message, data_left_out=f"it is no JSON: {error}"[:200])
    if len(text) > DATA_LIMIT:
        return finding(status, message, data_left_out=f"{len(text)} characters of JSON are too much")
    return finding(status, message, **json.loads(text))


async def _bounded(found: Any, bound: float) -> Any:
    async with asyncio.timeout(bound):
        return await found

"""``python -m regrow.recovery.calling MODULE:FUNCTION FACTS``: calls an app's recovery function, once.

The exit code says whether it is done; what it prints, and its traceback, is the evidence.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from regrow.recovery.model import Recovery


def load(name: str) -> Callable[[Recovery], object]:
    """The function ``package.module:function``. TypeError when it is none."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def told(facts: str) -> Recovery:
    """What the worker tells of the attempt."""
    known = json.loads(facts)
    failed_at = datetime.fromisoformat(known.pop("failed_at")) if known["failed_at"] else None
    return Recovery(**{**known, "failed_at": failed_at})


def main(name: str, facts: str) -> int:
    sys.path.insert(0, "")  # as the worker has it
    said = load(name)(told(facts))
    if isinstance(said, str):
        sys.stdout.write(said + "\n")
    return 1 if said is False else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

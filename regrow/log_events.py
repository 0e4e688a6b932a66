"""Log events from code that apps import: a stable name and fields, through the standard library alone.

Where Regrow's own logging is set up, the fields become those of the record. In an app with a format of its
own they stand behind the name, as ``name key=value``: a name alone would not say what is wrong.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

CREDENTIALS = re.compile(r"://[^/\s@]*@")


@dataclass(frozen=True)
class Each:
    """``log.info("letter.resolved", letter=Each(ids))``: one line for each id, made ready together.

    Two hundred letters that are settled together cost a quarter more with each line made by itself. Where
    Regrow's own logging is not set up, it is one line that names them all.
    """

    values: Sequence[str]

    def __str__(self) -> str:
        return " ".join(self.values)

    __repr__ = __str__


class EventLog:
    """``EventLog(__name__).warning("spool.full", bytes=17)``. No field may be called like one of a record."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: object) -> None:
        self._tell(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._tell(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._tell(logging.ERROR, event, fields)

    def critical(self, event: str, **fields: object) -> None:
        self._tell(logging.CRITICAL, event, fields)

    def _tell(self, level: int, event: str, fields: dict[str, object]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        if _structured():
            self._logger.log(level, event, extra=fields)
        else:
            told = " ".join(f"{name}={value}" for name, value in fields.items())
            self._logger.log(level, "%s %s", event, CREDENTIALS.sub("://***@", told))


def _structured() -> bool:
    structlog = sys.modules.get("structlog")
    return structlog is not None and bool(structlog.is_configured())

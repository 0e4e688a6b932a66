"""A database that is only read while the system is degraded: SQLAlchemy refuses what would write::

regrow.sqlalchemy.refuse_writes(engine)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from regrow.degradation.gates import Feature

if TYPE_CHECKING:
    import sqlalchemy as sa

_COMMENTS = re.compile(r"\A(?:\s|--[^\n]*\n|/\*.*?\*/|\()*", re.DOTALL)
_READS = {"SELECT", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "SET", "USE", "PRAGMA", "VALUES", "TABLE"}
_READS |= {"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE)


def refuse_writes(engine: sa.Engine, worst: str = "minor", *, feature: str = "database writes") -> None:
    """Let statements that write through up to the level ``worst``; beyond it they are DegradedError.

    Reading goes on. By the statement's first word, with ``WITH`` looked into; a database user that may not
    write is the stronger guard, and goes well with it. For an ``AsyncEngine``: its ``sync_engine``.
    """
    import sqlalchemy as sa

    switch = Feature(feature, worst)

    def before_cursor_execute(
        _connection: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
    ) -> None:
        if writes(statement):
            switch.check()

    sa.event.listen(engine, "before_cursor_execute", before_cursor_execute)


def writes(statement: str) -> bool:
    """Whether an SQL statement may change something."""
    text = _COMMENTS.sub("", statement, count=1)
    first = re.match(r"\w*", text)
    word = first.group().upper() if first else ""
    return bool(_WRITES.search(text)) if word == "WITH" else word not in _READS

"""The time between two columns, reckoned by the database, so that rows need not travel to be counted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class microseconds_between(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """``microseconds_between(earlier, later)``; SQLite is exact to about 50 of them."""

    type = BigInteger()
    inherit_cache = True


@compiles(microseconds_between)
def _sqlite(element: Any, compiler: Any, **options: Any) -> str:
    earlier, later = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(ROUND((julianday({later}) - julianday({earlier})) * 86400e6) AS INTEGER)"


@compiles(microseconds_between, "mysql", "mariadb")
def _mysql(element: Any, compiler: Any, **options: Any) -> str:
    earlier, later = (compiler.process(clause, **options) for clause in element.clauses)
    return f"TIMESTAMPDIFF(MICROSECOND, {earlier}, {later})"

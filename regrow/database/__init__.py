"""The database: tables, migrations, and :class:`Database`, the one door to them."""

from regrow.database.session import Database

__all__ = ["Database"]

"""Temp files: kept in bounds by age, size and pattern, under declared roots only.

``rules`` decide file by file (no I/O), ``walk`` reads folders without ever following a link, ``open_files``
knows what processes hold open, ``cleaning`` removes, ``service`` runs it over the declared roots.
"""

from regrow.temp_files.service import Usage, clean, usage

__all__ = ["Usage", "clean", "usage"]

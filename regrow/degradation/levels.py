"""How much of a system is on: five levels, best first, that compare by how bad they are."""

from __future__ import annotations

from enum import StrEnum

from regrow.errors import SettingsError


class Level(StrEnum):
    """``Level.MINOR < "severe"``, ``max(levels)`` is the worst. As text it is its name."""

    NORMAL = "normal"
    MINOR = "minor"
    MODERATE = "moderate"
    SEVERE = "severe"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for normal to 4 for critical."""
        return _RANKS[self]

    def __lt__(self, other: str) -> bool:
        return self.rank < Level(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Level(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Level(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Level(other).rank


LEVELS: tuple[Level, ...] = tuple(Level)
_RANKS = {level: rank for rank, level in enumerate(LEVELS)}


def named(name: str) -> Level:
    """The level of this name. SettingsError, which names all, when there is none."""
    try:
        return Level(name)
    except ValueError:
        raise SettingsError(f"no level is called {name!r}; they are {', '.join(LEVELS)}") from None

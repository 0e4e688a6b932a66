"""What the sections of a report are made of: tables whose cells are values that say what they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A cell that stands on the right."""

    text: str


@dataclass(frozen=True)
class Strip:
    """A period in parts: a letter for each state, and the same in words."""

    states: str
    words: str


Cell = str | Number | Strip


@dataclass(frozen=True)
class Section:
    """A table with its title. ``caption``: what it takes to read it. ``empty``: said in place of no rows.

    ``chart``: the name of the picture that goes with it, in forms that have pictures.
    """

    title: str
    titles: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    empty: str = ""
    chart: str = ""

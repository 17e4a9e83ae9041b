"""What a page is made of: sections of tables of plain text. HTML and Markdown render the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["", "good", "bad", "mark", "quiet", "code", "spot", "time"]
"""How a cell is set: ``mark`` differs, ``time`` and ``spot`` (coordinates) never break. The text says it too."""


@dataclass(frozen=True)
class Cell:
    """One table cell: finished text and how it is set."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Grid:
    """One table: the first cell of each row is its header. ``numeric`` are the right-aligned columns.

    On a narrow screen a table scrolls sideways, or each row becomes a stack of labelled lines.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[int, ...] = ()
    open_rows: int = 1_000
    tag: str = ""
    tag_tone: str = ""
    narrow: Literal["scroll", "stack"] = "scroll"


@dataclass(frozen=True)
class Paragraph:
    """A heading, a text, and the commands to type."""

    heading: str
    text: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    """One differing row, told so that it needs nothing around it: tables first, then what they mean."""

    title: str
    tag: str
    tag_tone: str
    lead: str
    grids: tuple[Grid, ...]
    told: tuple[Paragraph, ...]


@dataclass(frozen=True)
class Section:
    """One chapter. ``empty`` is the one line that stands where there is nothing to show.

    Of the stories ``open_stories`` are open, the rest is folded under the words ``more_stories``.
    ``legend`` are the roles of a chart (words of ours, which become classes) with their names.
    """

    anchor: str
    title: str
    intro: str = ""
    empty: str = ""
    chart: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    grids: tuple[Grid, ...] = ()
    folded: tuple[Grid, ...] = ()
    folded_title: str = ""
    stories: tuple[Story, ...] = ()
    open_stories: int = 1_000
    more_stories: str = ""
    items: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def row(*cells: str | Cell) -> tuple[Cell, ...]:
    """One table row from texts and cells."""
    return tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)

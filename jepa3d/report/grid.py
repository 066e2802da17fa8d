"""A table as the page, the Markdown file, the CSV file and the terminal show it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

COLOURS = {"best": "bold green", "tied": "green", "reproduced": "green", "above": "blue", "below": "yellow",
           "inconclusive": "yellow", "supported": "green", "contradicted": "red", "not-decided": "yellow",
           "not-run": "dim", "gap": "dim"}  # fmt: skip


class Bit(NamedTuple):
    """One thing that a cell says."""

    text: str
    small: str = ""  # on the page: a second, smaller line
    hover: str = ""  # on the page: while the mouse is over it
    mark: str = ""  # what it is: best, tied, gap, a verdict; a class of style.css and a colour of the terminal


Cell = tuple[Bit, ...]


def cell(text: object, small: str = "", hover: str = "", mark: str = "") -> Cell:
    return (Bit(str(text), small, hover, mark),)


GAP = cell("–", mark="gap")


class Row(NamedTuple):
    """One line. `mark`: "section" is a heading over all columns; "ours", "aside" are classes of style.css."""

    cells: Sequence[Cell]
    mark: str = ""


class Grid(NamedTuple):
    """A table; `numbers`: the columns that are set flush right; `look`: classes of style.css."""

    head: Sequence[Cell]
    rows: Sequence[Row]
    numbers: frozenset[int] = frozenset()
    look: str = ""


def grid(
    head: Iterable[str | Cell], rows: Iterable[Row | Sequence[str | Cell]], numbers: str = "", look: str = ""
) -> Grid:
    """Texts stand for cells. `numbers` has a letter a column: n for one of numbers; the last letter goes on."""
    titles = [_cell(one) for one in head]
    letters = numbers.ljust(len(titles), numbers[-1:] or " ")
    lines = [row if isinstance(row, Row) else Row([_cell(one) for one in row]) for row in rows]
    return Grid(titles, lines, frozenset(n for n, letter in enumerate(letters) if letter == "n"), look)


def _cell(one: str | Cell) -> Cell:
    return cell(one) if isinstance(one, str) else one


def plain(found: Cell) -> str:
    """A cell's text alone."""
    return "; ".join(bit.text for bit in found)


def markdown(table: Grid) -> str:
    lines = [[plain(one) for one in table.head], ["---"] * len(table.head)]
    lines += [[plain(one) for one in row.cells] for row in table.rows]
    width = len(table.head)
    filled = [[*line, *[""] * (width - len(line))] for line in lines]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in filled)


def pieces(table: Grid, width: int) -> list[Grid]:
    """The table in pieces of whole columns that fit `width` letters; each begins with the first column."""
    widths = [
        3 + max(len(text) for text in texts)
        for texts in zip(*([plain(one) for one in row] for row in _whole(table)), strict=True)
    ]
    found: list[list[int]] = [[]]
    for number in range(1, len(table.head)):
        if found[-1] and 1 + widths[0] + sum(widths[one] for one in found[-1]) + widths[number] > width:
            found.append([])
        found[-1].append(number)
    return [_columns(table, [0, *numbers]) for numbers in found]


def _whole(table: Grid) -> list[Sequence[Cell]]:
    """The head and the rows that have a cell in each column."""
    return [table.head, *(row.cells for row in table.rows if len(row.cells) == len(table.head))]


def _columns(table: Grid, numbers: list[int]) -> Grid:
    rows = [
        row._replace(cells=[row.cells[number] for number in numbers]) if len(row.cells) == len(table.head) else row
        for row in table.rows
    ]
    right = frozenset(place for place, number in enumerate(numbers) if number in table.numbers)
    return Grid([table.head[number] for number in numbers], rows, right, table.look)


def terminal(table: Grid, title: str) -> Table:
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(table.head):
        drawn.add_column(escape(plain(name)), justify="right" if number in table.numbers else "left")
    for row in table.rows:
        if row.mark == "section":
            drawn.add_section()
        texts = ["; ".join(_coloured(bit) for bit in one) for one in row.cells]
        drawn.add_row(*texts, style="bold" if row.mark == "section" else None)
    return drawn


def _coloured(bit: Bit) -> str:
    style = COLOURS.get(bit.mark)
    return f"[{style}]{escape(bit.text)}[/]" if style else escape(bit.text)


def csv_file(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()

"""The tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from jepa3d.published import ABSTRACT, DOCUMENT
from jepa3d.report.ablations import Ablation
from jepa3d.report.content import Content
from jepa3d.report.tables import AUTHORS, Row, Table
from jepa3d.report.text import SOURCES, ablation_lines, claimed, own_cell

COLOURS = {"reproduced": "green", "above": "blue", "below": "yellow", "inconclusive": "yellow"}
LETTERS = {DOCUMENT: " d", ABSTRACT: " a", AUTHORS: ""}


def show(console: Console, found: Content) -> None:
    """The study's own tables with their protocols, then those of the document."""
    for group in found.groups:
        console.print(own(group))
        for column in group["columns"]:
            _protocol(console, column["name"], column["protocol"])
    for table in found.tables:
        console.print(document(table))
        for name, protocol in table.protocols.items():
            _protocol(console, name, protocol)
    for ablation in found.ablations:
        console.print(ablated(ablation))


def _protocol(console: Console, name: str, protocol: str) -> None:
    console.print(f"  {name}: {protocol}", style="dim", highlight=False, markup=False)


def own(group: dict[str, Any]) -> Grid:
    grid = _grid(f"On {group['dataset']}, %, mean ± std over the seeds")
    for column in group["columns"]:
        grid.add_column(column["name"], justify="right")
    for run in group["runs"]:
        grid.add_row(run, *(_marked(column, run) for column in group["columns"]))
    return grid


def _marked(column: dict[str, Any], run: str) -> str:
    mark = column["cells"][run]["mark"] if run in column["cells"] else ""
    text = own_cell(column, run)
    return f"[bold green]{text}[/]" if mark == "best" else f"[green]{text}[/]" if mark == "tied" else text


def document(table: Table) -> Grid:
    """One of the document's tables: methods down, benchmarks across, the published numbers over ours."""
    grid = _grid(
        f"{table.title}, %: {table.run} of {table.lines} lines run "
        "(d: the design document's number, a: the paper's abstract's, no letter: the authors' own)"
    )
    grid.show_lines = True
    methods: dict[str, dict[str, Row]] = {}
    for section in table.sections:
        grid.add_column(section.key)
        for row in section.rows:
            methods.setdefault(row.title, {})[section.key] = row
    for method, rows in methods.items():
        grid.add_row(method, *(_cell(rows[s.key]) if s.key in rows else "" for s in table.sections))
    return grid


def _cell(row: Row) -> str:
    theirs = [text + LETTERS[source] for source, text in zip(SOURCES, claimed(row), strict=True) if text != "–"]
    lines = [", ".join(theirs) or "–"]
    for ours in row.ours:
        words = ", ".join(f"[{COLOURS[word]}]{word}[/]" for word, _, _ in ours.words)
        lines.append(f"ours {ours.text}, {ours.title}" + (f": {words}" if words else ""))
    return "\n".join(lines if row.ours else [*lines, "[dim]not run[/]"])


def ablated(ablation: Ablation) -> Grid:
    grid = _grid(f"Ablation: {ablation.title}")
    for key in ablation.benchmarks:
        grid.add_column(f"{key}, document")
        grid.add_column(f"{key}, ours")
    for line in ablation_lines(ablation):
        grid.add_row(*line)
    return grid


def _grid(title: str) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold")
    grid.add_column("")
    return grid

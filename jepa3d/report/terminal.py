"""The tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from jepa3d.report.ablations import Ablation
from jepa3d.report.content import Content
from jepa3d.report.tables import Table
from jepa3d.report.text import HEAD, SOURCES, ablation_lines, document_lines, own_cell

WIDTH = 132  # where the output is no terminal
SHORT = {"design document": "document", "paper abstract": "abstract", "its authors": "authors"}
COLOURS = {"reproduced": "green", "above": "blue", "below": "yellow", "inconclusive": "yellow"}


def show(found: Content, console: Console | None = None) -> None:
    """The study's own tables with their protocols, then those of the document."""
    console = console or Console()
    if not console.is_terminal:
        console.width = WIDTH
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
    """One of the document's tables: a line for each method and each reading of ours, benchmark by benchmark."""
    grid = _grid(f"{table.title}, %: {table.run} of {table.lines} lines run")
    for name in HEAD[1:]:
        grid.add_column(SHORT.get(name, name), justify="right" if name in (*SOURCES, "ours") else "left")
    for section in table.sections:
        grid.add_section()
        grid.add_row(f"[bold]{section.title}[/]")
        before = ""
        for line in document_lines(section):
            method = "" if line[0] == before else line[0]
            before = line[0]
            word = line[-1].partition(" (")[0]
            grid.add_row(method, *line[1:-1], f"[{COLOURS.get(word, 'dim')}]{line[-1]}[/]")
    return grid


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

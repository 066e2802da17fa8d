"""The tables as one Markdown file, as CSV, and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jepa3d.report import ledger
from jepa3d.report.content import Content
from jepa3d.report.document import ablation_grid, document_grid
from jepa3d.report.grid import markdown, pieces, terminal
from jepa3d.report.published import spread_of
from jepa3d.report.results import result_grid
from jepa3d.report.tables import Row, Table, exact
from jepa3d.report.terms import terms_grid

WIDTH = 80  # where the output is no terminal
COLUMNS = [
    "table", "benchmark", "method", "source", "published", "spread", "spread_from", "ours", "std", "n", "low", "high",
    "epoch_chosen", "run", "evaluation", "verdict", "why", "their_protocol", "our_protocol",
]  # fmt: skip


def markdown_file(found: Content) -> str:
    """Every table of the report with its protocols."""
    study = found.study
    parts = [
        f"# The study {study.name}",
        study.about,
        "Mean ± sample standard deviation over n seeds; shares in percent.",
    ]
    parts += ["## What is claimed", *ledger.headline(found.ledger)]
    if (claimed := ledger.ledger_grid(found.ledger)).rows:
        parts += [markdown(claimed)]
    for group in found.groups:
        parts += [f"## On {group.dataset}", markdown(result_grid(found.params, group))]
        parts += ["–: not part of this study."] * group.gaps
        parts += ["\n".join(f"- **{of.name}**: {'. '.join((of.protocol, *of.seen))}." for of in group.columns)]
    if study.terms:
        parts += ["## On which terms", markdown(terms_grid(study.terms))]
    parts += ["# The document's tables", "A line is compared only where run and evaluation are what it describes."]
    for table in found.tables:
        parts += [f"## {table.title}", table.about, markdown(document_grid(table))]
        parts += [f"- theirs, **{section.title}**: {section.metric}; {section.protocol}." for section in table.sections]
        parts += [f"- ours, **{name}**: {protocol}." for name, protocol in table.protocols.items()]
    for ablation in found.ablations:
        parts += [f"## Ablation: {ablation.title}", ablation.about, markdown(ablation_grid(ablation))]
    return "\n\n".join(part for part in parts if part) + "\n"


def show(found: Content, page: Path, console: Console | None = None) -> None:
    """What the study found, on the terminal: its claims, its tables, of the document's those with a line, the page."""
    console = console or Console()
    if not console.is_terminal:
        console.width = WIDTH

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for sentence in ledger.headline(found.ledger):
        say(sentence)
    for group in found.groups:
        title = f"On {group.dataset}: mean ± standard deviation over seeds, shares in %"
        for number, piece in enumerate(pieces(result_grid(found.params, group), console.width)):
            console.print(terminal(piece, "" if number else title))
    for table in found.tables:
        if table.run:
            title = f"{table.title}, %: {table.run} of {table.lines} lines were run"
            console.print(terminal(document_grid(table), title))
    for ablation in found.ablations:
        if ablation.run:
            console.print(terminal(ablation_grid(ablation), f"Ablation: {ablation.title}"))
    left = sum(not table.run for table in found.tables) + sum(not ablation.run for ablation in found.ablations)
    if left:
        say(f"{left} tables of published results have no line of this study; the report lists them.")
    say(f"report: {page}")


def csv_rows(tables: Sequence[Table]) -> list[list[str]]:
    """A line for each published number and each of our readings beside it."""
    lines = [COLUMNS]
    for table in tables:
        for section in table.sections:
            for row in section.rows:
                lines += [[table.name, section.key, row.title, *line] for line in _csv_lines(section.protocol, row)]
    return lines


def _csv_lines(protocol: str, row: Row) -> list[list[str]]:
    lines = []
    for ours in row.ours or (None,):
        mine = [""] * 8
        if ours:
            mean, low, high, n = ours.interval
            numbers = [f"{mean:.4g}", f"{ours.std:.3g}", str(n), f"{low:.4g}", f"{high:.4g}"]
            mine = [*numbers, ours.title, ours.run, ours.evaluation]
        for source in [*row.claimed] or [""]:
            theirs, said = [""] * 4, ["not run", ""]
            if cell := row.claimed.get(source):
                plan = spread_of(cell)
                theirs = [cell.source, exact(cell.value), f"{plan.std:.3g}", plan.source]
            if ours:
                said = [ours.verdicts[source].word, ours.verdicts[source].why] if source else ["", ""]
            lines.append([*theirs, *mine, *said, protocol, ours.protocol if ours else ""])
    return lines

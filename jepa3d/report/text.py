"""The tables as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jepa3d.report.ablations import Ablation
from jepa3d.report.content import Content
from jepa3d.report.published import ABSTRACT, DOCUMENT, Published, spread_of
from jepa3d.report.tables import AUTHORS, Ours, Row, Section, Table, exact

SOURCES = (DOCUMENT, ABSTRACT, AUTHORS)
HEAD = ["method", *SOURCES, "ours", "how its epoch was chosen", "verdict"]
COLUMNS = [
    "table", "benchmark", "method", "source", "published", "spread", "spread_from", "ours", "std", "n", "low", "high",
    "epoch_chosen", "run", "evaluation", "verdict", "why", "their_protocol", "our_protocol",
]  # fmt: skip


def markdown(found: Content) -> str:
    """Every table of the report with its protocols."""
    study = found.study
    parts = [f"# The study {study.name}", study.about, "Mean ± sample standard deviation over n seeds, in percent."]
    for group in found.groups:
        rows = [[run, *(own_cell(column, run) for column in group["columns"])] for run in group["runs"]]
        parts += [f"## On {group['dataset']}", grid(["run", *(column["name"] for column in group["columns"])], rows)]
        parts += ["–: not part of this study."] * group["gaps"]
        parts += ["\n".join(f"- **{column['name']}**: {column['protocol']}." for column in group["columns"])]
    parts += ["# The document's tables", "A line is compared only where run and evaluation are what it describes."]
    for table in found.tables:
        parts += [f"## {table.title}", table.about]
        for section in table.sections:
            parts += [f"### {section.title}", f"{section.metric}; theirs: {section.protocol}."]
            parts += [grid(HEAD, document_lines(section))]
        parts += [f"- ours, **{name}**: {protocol}." for name, protocol in table.protocols.items()]
    for ablation in found.ablations:
        head = ["", *(word for key in ablation.benchmarks for word in (f"{key}, document", f"{key}, ours"))]
        parts += [f"## Ablation: {ablation.title}", ablation.about, grid(head, ablation_lines(ablation))]
    return "\n\n".join(part for part in parts if part) + "\n"


def own_cell(column: Mapping[str, Any], run: str) -> str:
    """A cell of the study's own tables; a dash where the study has none."""
    cell = column["cells"].get(run)
    if cell is None:
        return "–"
    spread = f" ± {cell['std']}" if cell["std"] else ""
    return f"{cell['mean']}{spread}" + (f" (n = {cell['n']})" if cell["fewer"] else "")


def document_lines(section: Section) -> list[list[str]]:
    """One line for each method and reading of ours."""
    lines = []
    for row in section.rows:
        for ours in row.ours:
            lines.append([row.title, *claimed(row), ours.text, ours.title, verdicts(ours)])
        if not row.ours:
            lines.append([row.title, *claimed(row), "–", "–", "not run"])
    return lines


def claimed(row: Row) -> list[str]:
    """The published numbers of a line, one for each source."""
    return [published_text(row.claimed.get(source)) for source in SOURCES]


def published_text(cell: Published | None) -> str:
    if cell is None:
        return "–"
    return exact(cell.value) + ("" if cell.spread is None else f" ± {exact(cell.spread)}")


def verdicts(ours: Ours) -> str:
    return "; ".join(f"{word} ({sources})" for word, sources, _ in ours.words) or "no number was published"


def ablation_lines(ablation: Ablation) -> list[list[str]]:
    lines = []
    for row in ablation.rows:
        line = [row.title]
        for key in ablation.benchmarks:
            line.append(exact(row.claimed[key]) if key in row.claimed else row.said or "–")
            line.append("; ".join(f"{of.text} {of.title}: {verdicts(of)}" for of in row.ours.get(key, ())) or "not run")
        lines.append(line)
    return lines


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


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

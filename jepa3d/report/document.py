"""The document's tables as the report prints them: published, ours, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from jepa3d.report import published
from jepa3d.report.ablations import Ablation
from jepa3d.report.grid import GAP, Bit, Cell, Grid, Row, cell, grid
from jepa3d.report.published import ABSTRACT, DOCUMENT, Published, spread_of
from jepa3d.report.tables import AUTHORS, NearMiss, Ours, Table, exact

SOURCES = (DOCUMENT, ABSTRACT, AUTHORS)
NOT_RUN = cell("not run", mark="not-run")


def document_grid(table: Table) -> Grid:
    """A line for each method and each reading of ours, benchmark by benchmark."""
    head = [cell("method"), *(cell(source, "%") for source in SOURCES), cell("ours", "mean ± std, 95 % interval")]
    rows = []
    for section in table.sections:
        rows.append(Row([cell(section.title, f"{section.metric}; theirs: {section.protocol}")], "section"))
        for row in section.rows:
            claimed = [claim(row.claimed.get(source)) for source in SOURCES]
            if not row.ours:
                rows.append(Row([cell(row.title), *claimed, GAP, GAP, NOT_RUN]))
            for place, ours in enumerate(row.ours):
                first = [cell(row.title), *claimed] if place == 0 else [cell("")] * (1 + len(SOURCES))
                chosen = cell(ours.title, f"{ours.run}, {ours.evaluation}")
                rows.append(Row([*first, measured(ours), chosen, verdicts(ours)], "ours"))
    return grid([*head, "how its epoch was chosen", "verdict"], rows, " nnnn  ", "full claims")


def claim(row: Published | None) -> Cell:
    """A published number; what one must know of it, on hovering."""
    if row is None:
        return GAP
    plan = spread_of(row)
    known = "; ".join(filter(None, (row.source, row.note, f"spread to plan with: {plan.std:.2f} ({plan.source})")))
    return cell(exact(row.value) + ("" if row.spread is None else f" ± {exact(row.spread)}"), hover=known)


def measured(ours: Ours) -> Cell:
    return cell(ours.text, f"{ours.interval.low:.1f} to {ours.interval.high:.1f}")


def verdicts(ours: Ours) -> Cell:
    words = tuple(Bit(f"{word} ({sources})", why, mark=word) for word, sources, why in ours.words)
    return words or cell("no number was published")


def ablation_grid(ablation: Ablation) -> Grid:
    head: list[Cell] = [cell(ablation.title)]
    for key in ablation.benchmarks:
        head += [cell(f"{key}, document", published.BENCHMARKS[key].title), cell(f"{key}, ours", "and verdict")]
    rows = []
    for row in ablation.rows:
        line = [cell(row.title)]
        for key in ablation.benchmarks:
            line.append(cell(exact(row.claimed[key]) if key in row.claimed else row.said or "–"))
            bits: list[Bit] = []
            for ours in row.ours.get(key, ()):
                bits += (*cell(f"{ours.text} {ours.title}", ours.run), *verdicts(ours))
            line.append(tuple(bits) or NOT_RUN)
        rows.append(line)
    return grid(head, rows, look="full claims")


def near_grid(near: Sequence[NearMiss]) -> Grid:
    """What is on public data and compared with nothing, and why."""
    rows = []
    for miss in near:
        why = "; ".join(miss.why[:4]) + ("; …" if len(miss.why) > 4 else "")
        rows.append([miss.run, miss.evaluation, published.BENCHMARKS[miss.benchmark].title, why])
    return grid(["run", "evaluation", "benchmark", "differs in"], rows)

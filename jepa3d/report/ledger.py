"""The ledger of claims as the page, the text files and the terminal show it."""

from __future__ import annotations

from collections.abc import Sequence

from jepa3d.report.claims import WORDS, Judged
from jepa3d.report.grid import Bit, Grid, Row, cell, grid

COLUMNS = [
    "claim", "verdict", "evaluation", "a", "b", "points", "low", "high", "at_least", "p_corrected", "p", "seeds",
    "shapes", "decides",
]  # fmt: skip
SHOWN = 3  # pieces of evidence of one claim in the table; claims.csv has all


def headline(found: Sequence[Judged]) -> list[str]:
    """What the study found, in sentences: one for each verdict that occurs."""
    said = []
    for word in WORDS:
        titles = [one.claim.title for one in found if one.word == word]
        if titles and word != "not run":
            said.append(f"{word.capitalize()}: {'; '.join(titles)}.")
    missing = sum(one.word == "not run" for one in found)
    return [*said, f"Not run here: {missing} of {len(found)} claims."] if missing else said


def ledger_grid(found: Sequence[Judged]) -> Grid:
    """A line for each claim that the study has evidence on: the claim, the verdict, the evidence."""
    rows = []
    for one in found:
        if one.lines:
            bits = [Bit(line.text, "" if line.decides else "shown, does not decide") for line in one.lines[:SHOWN]]
            claim = cell(one.claim.title, one.claim.source, one.claim.hypothesis)
            rows.append(Row([claim, cell(one.word, mark=one.word.replace(" ", "-")), tuple(bits)]))
    return grid(["claim", "verdict", "evidence"], rows, look="full claims")


def not_run_grid(found: Sequence[Judged]) -> Grid:
    """The other claims, and what would decide them."""
    rows = [[one.claim.title, one.claim.source, one.claim.hypothesis] for one in found if not one.lines]
    return grid(["claim, not run", "source", "hypothesis"], rows, look="prose")


def csv_rows(found: Sequence[Judged]) -> list[list[str]]:
    """A line for each piece of evidence, and one for each claim without any."""
    rows = [COLUMNS]
    for one in found:
        for line in one.lines:
            of = line.difference
            ends = [f"{end:.4g}" if of.seeds > 1 else "" for end in (of.low, of.high)]
            tests = ["" if p is None else f"{p:.4g}" for p in (line.corrected, of.p)]
            cells = [f"{of.mean:.4g}", *ends, f"{one.claim.at_least:g}", *tests, str(of.seeds), str(of.shapes)]
            rows.append([one.claim.name, one.word, line.evaluation, line.a, line.b, *cells, str(int(line.decides))])
        if not one.lines:
            rows.append([one.claim.name, one.word, *[""] * (len(COLUMNS) - 2)])
    return rows

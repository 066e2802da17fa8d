"""The document's ablations: its table of target blocks, and the two that it has in words only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jepa3d.ops.statistics import Interval
from jepa3d.ops.verdict import verdict
from jepa3d.params import Params
from jepa3d.report import numbers, paired, published, recipes
from jepa3d.report.published import DOCUMENT, OURS, Published
from jepa3d.report.recipes import Reading, Recipe
from jepa3d.report.study import Study
from jepa3d.report.tables import Match, Ours, matching, measured, run_entries

Entries = Mapping[str, Mapping[str, Any]]
ON = ("pb_t50_rs", "modelnet40")  # the document's two columns
FILLS = {"literal": "blocks as in Algorithm 2", "exact": "blocks grown to the full ratio"}


class AblationRow(NamedTuple):
    title: str
    claimed: dict[str, float]  # benchmark -> the document's number
    said: str  # its words, where it gives no number
    ours: dict[str, tuple[Ours, ...]]  # benchmark -> one for each way to fill the blocks; {} where nothing was run


class Ablation(NamedTuple):
    name: str
    title: str
    about: str
    benchmarks: tuple[str, ...]
    rows: tuple[AblationRow, ...]

    @property
    def run(self) -> int:
        """How many of its lines were run."""
        return sum(bool(row.ours) for row in self.rows)


def ablations(params: Params, study: Study) -> list[Ablation]:
    entries = run_entries(params, study)
    return [blocks(params, study, entries), ratio(params, study, entries), reconstruction(params, study, entries)]


def blocks(params: Params, study: Study, entries: Entries) -> Ablation:
    rows = []
    for number, claims in published.ABLATION_BLOCKS.items():
        claimed = {row.benchmark: row for row in claims}
        ours = of_variant(params, study, entries, {"objective.mask.blocks": number}, claimed, f"M = {number}")
        rows.append(AblationRow(f"M = {number}", {row.benchmark: row.value for row in claims}, "", ours))
    about = (
        "The document's table. Followed literally, more blocks also mask fewer patches, two causes in one column, so "
        "ours has both fillings. A row is reproduced only where our interval leaves out the numbers of the other rows."
    )
    return Ablation("blocks", "Number of target blocks M", about, ON, tuple(rows))


def ratio(params: Params, study: Study, entries: Entries) -> Ablation:
    """A line for each of the document's claims, with all that was run within its range of ratios; ratios that it says
    nothing about have lines of their own."""
    masks = [entry["objective"].get("mask") or {} for entry in entries.values()]
    run = {value: of_variant(params, study, entries, {"objective.mask.ratio": value}, {}, f"r = {value:g}")
           for value in sorted({mask["ratio"] for mask in masks if "ratio" in mask})}  # fmt: skip
    rows = []
    for claim in published.ABLATION_RATIO:
        below, above = f"r < {claim.high:g}", f"r > {claim.low:g}"
        title = below if claim.low == 0 else above if claim.high == 1 else f"r = {claim.low:g} to {claim.high:g}"
        inside = [run.pop(value) for value in list(run) if claim.low <= value <= claim.high]
        rows.append(AblationRow(title, {}, claim.said, joined(inside)))
    rows += [AblationRow(f"r = {value:g}", {}, "", ours) for value, ours in run.items() if ours]
    about = "The document has words for it and no numbers, so there is nothing to give a verdict on."
    return Ablation("ratio", "Masking ratio r", about, ON, tuple(rows))


def joined(parts: Sequence[Mapping[str, tuple[Ours, ...]]]) -> dict[str, tuple[Ours, ...]]:
    keys = [key for key in ON if any(key in part for part in parts)]
    return {key: tuple(ours for part in parts for ours in part.get(key, ())) for key in keys}


def reconstruction(params: Params, study: Study, entries: Entries) -> Ablation:
    """How many points the document's run is above its twin that predicts coordinates, seed by seed."""
    low, high = published.RECONSTRUCTION
    ours: dict[str, tuple[Ours, ...]] = {}
    pair = [
        matching(params, study, entries, "pb_t50_rs", recipe)
        for recipe in (Recipe("", OURS, (), "document"), recipes.COORDINATES)
    ]
    if pair[0] and pair[1]:
        apart = difference(study, pair[0], pair[1], "accuracy")
        found = verdict(apart[0], (low + high) / 2, (high - low) / 4, {"no difference": 0.0})
        names = f"{pair[0].run} − {pair[1].run}"
        protocol = study.of(*pair[0])[0].protocol
        line = Ours(recipes.HONEST, names, pair[0].evaluation, *apart, protocol, {DOCUMENT: found})
        ours["pb_t50_rs"] = (line,)
    row = AblationRow("representations − coordinates", {}, f"approximately {low:g} to {high:g} points", ours)
    about = "The document: with coordinates in place of representations, ScanObjectNN loses 1 to 2 points."
    return Ablation("reconstruction", "Representations or coordinates", about, ("pb_t50_rs",), (row,))


def difference(study: Study, a: Match, b: Match, metric: str) -> tuple[Interval, float]:
    """How far two runs are apart over the seeds that both have, in percent, and the sample std over those seeds."""
    first, second = study.outcomes[a.run][a.evaluation], study.outcomes[b.run][b.evaluation]
    found = paired.difference(first, second, metric)
    each = [first[seed].metrics[metric].value - second[seed].metrics[metric].value for seed in first if seed in second]
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high, found.seeds), 100 * numbers.spread(each).std


def of_variant(
    params: Params,
    study: Study,
    entries: Entries,
    change: Mapping[str, Any],
    claimed: Mapping[str, Published],
    name: str,
) -> dict[str, tuple[Ours, ...]]:
    """What was run of the document's run with one change, under both fillings of the blocks."""
    found: dict[str, tuple[Ours, ...]] = {}
    for key in ON:
        for fill, words in FILLS.items():
            recipe = Recipe("", OURS, (), "document", {**change, "objective.mask.fill": fill})
            if match := matching(params, study, entries, key, recipe):
                of = {DOCUMENT: claimed[key]} if key in claimed else {}
                reading = Reading("accuracy", f"{name}, {recipes.HONEST}, {words}")
                against = {DOCUMENT: other_rows(key, claimed.get(key))}
                found[key] = (*found.get(key, ()), measured(study.of(*match), match, reading, of, against))
    return found


def other_rows(key: str, row: Published | None) -> dict[str, float]:
    """The numbers of the table's other rows: what one row has to be told from."""
    rows = [other for claims in published.ABLATION_BLOCKS.values() for other in claims if other.benchmark == key]
    return {other.method.split(", ")[1]: other.value for other in rows if other is not row}

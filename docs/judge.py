"""Draws docs/verdicts.md and docs/claims.md, and the claims in README.md and docs/results.md: which results would get
which verdict, how many seeds it takes, what is claimed and what was found. From code, published.yaml, claims.yaml and
committed ledgers.

python docs/judge.py            writes the pages
python docs/judge.py --check    exit code 1 where one is not what would be written
"""

from __future__ import annotations

import csv
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from jepa3d.ops.power import design_effect, disagreement_std, seeds_needed
from jepa3d.ops.statistics import Interval
from jepa3d.report import claims, published, recipes
from jepa3d.report.grid import grid, markdown
from jepa3d.report.published import BENCHMARKS, DOCUMENT, OURS, Published, spread_of
from jepa3d.report.tables import exact, judge

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CHOSEN = "demo"  # the study whose report lies in results/ itself
BLOCK = re.compile(r"(<!-- claims of (\S+) -->\n).*?(<!-- end of claims -->)", re.DOTALL)
NAMED = {  # the runs of claims.yaml
    "document": "3D-JEPA as the design document has it",
    "literal": "3D-JEPA as the design document has it (`objective.mask.fill: literal`)",
    "exact": "3D-JEPA as the design document has it, with `objective.mask.fill: exact`",
}
STEPS = np.arange(85.0, 89.01, 0.25)
SEEDS = (1, 3, 5, 10)
POINTS = (0.5, 1.0, 1.6)
DISAGREE = 0.1  # share of the test shapes that one of two methods has right and the other wrong
ALIKE = (0.3, 0.5, 0.8)

VERDICTS = """# Verdicts: what a result would have to be

This page is written by `make docs` from the code and `jepa3d/report/published.yaml`; a test holds that it is current.

A number of ours stands beside a published one only where run and evaluation are what the published row describes, key
by key. Then our 95 % interval is widened by the spread of the published number, in squares, and the verdict is

- **below** or **above** (ours is): the published number lies outside;
- **reproduced**: it lies inside, and no number that the row claims to be above does;
- **inconclusive**: it lies inside, and so does such a number: more seeds are needed.

Where both sides are scored on the same test shapes, only the trainings count: Student's t over our seeds, and for the
published number its published standard deviation, else that of Point-JEPA's ten runs on the same benchmark. A test set
that both share is no reason to differ. Where test shapes are drawn (few-shot episodes) our interval is over seeds and
test shapes, and the published one is that of the mean of ten folds. With a single seed, the published spread stands for
ours as well.

## Which means lead to which verdict

For three seeds of ours that have exactly the spread that stands in the table; steps of 0.05 points.

{ranges}

## PB_T50_RS, step by step

The design document's 86.8 for 3D-JEPA, which its text puts 1.6 points above Point-MAE's 85.2; seeds with a standard
deviation of {pb_std:g} points.

{steps}

## How many seeds a difference needs

Two runs that are truly apart by so many points: the fewest seeds with which the paired test (p < 0.05, no correction)
finds it in four of five studies. "These test shapes": a statement about this test set, where only trainings vary; their
standard deviation is that of the table above. "Any such shapes": a statement about shapes of this kind, for which the
test set is a sample. There, {disagree:.0f} % of its shapes are taken to be right under one method and wrong under the
other, which gives the difference the standard deviation in the last column. A dash: not even with 100 seeds, because
the test set is too small.

{power}

The test clouds of PB_T50_RS are {pb_shapes:,} crops of {pb_objects} objects, so they say less than as many objects
would. An accuracy of {pb_value:g} has a standard deviation of {binomial:.2f} points if every crop is an object of its
own, and of {clustered} if the crops of an object correlate by {alike}. The table takes {middle:g}.
Bootstraps of the report draw whole objects where a data set knows them.
"""

CLAIMS = """# Claims, and what would decide them

This page is written by `make docs` from `jepa3d/report/claims.yaml` and from the ledgers of finished studies that are
committed (`results/plots/claims.csv` of the demo, `docs/results/*/claims.csv`); a test holds that it is current. The
report of every study begins with the ledger of that study.

A claim was written down before it was run. Its evidence is a pair of runs that a study may have, by what they are and
not by their names, and the first kind of evaluation in the claim's list that the study has for this pair. The verdict
comes from the paired difference over seeds and test shapes, with Holm's correction over all deciding lines of the
ledger: **supported** or **contradicted** where p < 0.05, **not decided** where it is not or where lines disagree, **not
run** where the study has no such pair. A single seed decides nothing. Differences are in points of percent.

{summary}

{claims}
"""


def main() -> int:
    pages = drawn()
    if "--check" in sys.argv[1:]:
        return int(any(text != path.read_text(encoding="utf-8") for path, text in pages.items()))
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


def drawn() -> dict[Path, str]:
    """The pages as they should be."""
    pages = {page: filled(page.read_text(encoding="utf-8")) for page in (ROOT / "README.md", DOCS / "results.md")}
    return {DOCS / "verdicts.md": verdicts(), DOCS / "claims.md": ledger(), **pages}


# ---- claims


Rows = list[dict[str, str]]  # of a claims.csv


def ledger() -> str:
    found = kept()
    head = ["claim", "source", *(f"`study: {study}`" for study in found)]
    rows = [
        [claim.title, claim.source, *(verdict_of(of_claim(rows, claim)) for rows in found.values())]
        for claim in claims.CLAIMS
    ]
    texts = (section(claim, found) for claim in claims.CLAIMS)
    return CLAIMS.format(summary=markdown(grid(head, rows)), claims="\n\n".join(texts))


def kept() -> dict[str, Rows]:
    """The committed ledgers by study; none before the first report."""
    paths = {CHOSEN: ROOT / "results" / "plots" / "claims.csv"}
    paths |= {path.parent.name: path for path in sorted(ROOT.glob("docs/results/*/claims.csv"))}
    return {
        study: list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for study, path in paths.items()
        if path.exists()
    }


def of_claim(rows: Rows, claim: claims.Claim) -> Rows:
    return [row for row in rows if row["claim"] == claim.name]


def verdict_of(rows: Rows) -> str:
    return rows[0]["verdict"] if rows else "not run"


def evidence(row: dict[str, str]) -> str:
    """A piece of evidence in words, as the report has it."""
    ends = (float(row["low"]), float(row["high"])) if row["low"] else None
    p = float(row["p_corrected"]) if row["p_corrected"] else None
    points, against = float(row["points"]), float(row["at_least"])
    counts = int(row["seeds"]), int(row["shapes"])
    return claims.evidence(row["a"], row["b"], row["evaluation"], points, ends, p, against, *counts)


def filled(text: str) -> str:
    """A page with the claims of a study between its two comments: a line for each that was tested."""
    return BLOCK.sub(lambda block: f"{block[1]}{tested(kept().get(block[2], []))}{block[3]}", text)


def tested(rows: Rows) -> str:
    lines = []
    for claim in claims.CLAIMS:
        deciding = [row for row in of_claim(rows, claim) if row["decides"] == "1"]
        if deciding:
            said = "; ".join(map(evidence, deciding))
            lines.append(f"- **{deciding[0]['verdict']}**: {claim.title}. {said}.\n")
    return "".join(lines)


def section(claim: claims.Claim, found: Mapping[str, Rows]) -> str:
    """One claim: hypothesis, what decides, and the committed evidence."""
    equal = "everything else" if claim.same == "all" else ", ".join(f"`{key}`" for key in claim.same)
    than = "; minus the same difference on " + " or else ".join(map(keys, claim.than)) if claim.than else ""
    lines = [
        f"## {claim.title}\n",
        textwrap.fill(f"{claim.hypothesis} Source: {claim.source}.", 120) + "\n",
        f"- supported where {claim.supports}; contradicted where {claim.contradicts}",
        f"- pair: {keys(claim.a)} against {keys(claim.b)}; equal in {equal}",
        f"- evaluation: {', or else '.join(map(keys, claim.evidence))}{than}",
    ]
    for study, rows in found.items():
        for row in of_claim(rows, claim):
            if row["points"]:
                aside = "" if row["decides"] == "1" else "; shown, does not decide"
                lines.append(f"- found by `study: {study}`: {evidence(row)}{aside}")
    return "\n".join(lines)


def keys(found: claims.Keys) -> str:
    """Dotted keys and values as code; those of the document's run by their name."""
    for name, run in claims.RUNS.items():
        if found == run:
            return NAMED[name]
    return " and ".join(f"`{key}: {value}`" for key, value in found.items())


# ---- verdicts


def verdicts() -> str:
    pb, row = BENCHMARKS["pb_t50_rs"], claimed("pb_t50_rs", DOCUMENT)
    assert pb.test_shapes is not None
    binomial = 100 * math.sqrt(row.value * (100 - row.value) / 1e4 / pb.test_shapes)
    clustered = [binomial * math.sqrt(design_effect(pb.test_shapes, pb.test_objects, alike)) for alike in ALIKE]
    return VERDICTS.format(
        ranges=ranges(),
        steps=steps(row),
        pb_std=spread_of(row).std,
        disagree=100 * DISAGREE,
        power=needed(),
        pb_shapes=pb.test_shapes,
        pb_objects=pb.test_objects,
        pb_value=row.value,
        binomial=binomial,
        clustered=listed(f"{std:.2f}" for std in clustered),
        alike=listed(f"{alike:g}" for alike in ALIKE),
        middle=ALIKE[1],
    )


def listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


def claimed(benchmark: str, source: str) -> Published:
    return next(row for row in published.of(benchmark) if (row.method, row.source) == (OURS, source))


def ours() -> list[Published]:
    """Every number of 3D-JEPA that a run can get a verdict on."""
    return [row for key in recipes.MEASURES for row in published.ALL if (row.benchmark, row.method) == (key, OURS)]


def word(row: Published, mean: float, seeds: int) -> str:
    """The verdict of so many seeds with this mean and the spread to plan with."""
    std = spread_of(row).std
    half = float(student.ppf(0.975, seeds - 1)) * std / math.sqrt(seeds) if seeds > 1 else 0.0
    interval = Interval(mean, mean - half, mean + half, seeds)
    return judge(interval, interval, row, published.rivals(row)).word


def ranges() -> str:
    head = ["benchmark", "source", "published", "has to be told from", "spread", "below", "inconclusive", "reproduced"]
    rows = []
    for row in ours():
        at = np.round(np.arange(row.value - 15, row.value + 15, 0.05), 2)
        of = {mean: word(row, mean, 3) for mean in at}
        cells = [
            said(sorted(mean for mean in at if of[mean] == one)) for one in ("inconclusive", "reproduced", "above")
        ]
        first = min(mean for mean in at if of[mean] != "below")
        against = ", ".join(f"{name} {exact(value)}" for name, value in published.rivals(row).items())
        rows.append(
            [BENCHMARKS[row.benchmark].title, row.source, exact(row.value), against, f"{spread_of(row).std:g}",
             f"under {first:.2f}", *cells]
        )  # fmt: skip
    return markdown(grid([*head, "above"], rows))


def said(means: list[float]) -> str:
    """Where means of one verdict lie; the last ones of the range that was looked at are open to the right."""
    if not means:
        return "none"
    parts = np.split(np.array(means), np.flatnonzero(np.diff(means) > 0.06) + 1)
    return " and ".join(
        f"{part[0]:.2f} to {part[-1]:.2f}" if len(part) < 200 else f"over {part[0]:.2f}" for part in parts
    )


def steps(row: Published) -> str:
    head = ["mean of ours", *(f"{seeds} seed{'s' * (seeds > 1)}" for seeds in SEEDS)]
    return markdown(grid(head, [[f"{mean:.2f}", *(word(row, mean, seeds) for seeds in SEEDS)] for mean in STEPS]))


def needed() -> str:
    head = ["benchmark", *(f"{points:g}, these test shapes" for points in POINTS)]
    head += [*(f"{points:g}, any such shapes" for points in POINTS), "s.d. of the difference"]
    rows = []
    for benchmark in BENCHMARKS.values():
        if benchmark.training_std is None or benchmark.test_shapes is None:
            continue
        sampling = disagreement_std(DISAGREE, benchmark.test_shapes, benchmark.test_objects, ALIKE[1])
        counts = [seeds_needed(points, benchmark.training_std, std) for std in (0.0, sampling) for points in POINTS]
        rows.append([benchmark.title, *("–" if one is None else str(one) for one in counts), f"{sampling:.2f}"])
    return markdown(grid(head, rows))


if __name__ == "__main__":
    sys.exit(main())

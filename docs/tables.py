"""Fills the tables of README.md and docs/ with the numbers of finished studies, so that none is typed by hand.

python docs/tables.py               writes every table anew
python docs/tables.py --check       exit code 1 where one is not what would be written
python docs/tables.py --keep STUDY  first copies the numbers of a finished study to docs/results/STUDY/

A table stands between two comments. The first says, in YAML, which study it is of, and which runs and metrics it has:

    <!-- table
    study: demo
    rows: {jepa: 3D-JEPA, jepa ema: "3D-JEPA, EMA encoder", chance: the most frequent class}
    columns: {linear accuracy: linear probe, knn accuracy_k1: 1-NN}
    -->
    <!-- end of table -->

A cell is the mean ± sample standard deviation over seeds, shares in percent. It is bold where the paired test tells the
run from every other of several seeds (`paired.csv`); "one seed" stands beside a number that has no spread.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(Path(__file__).parent.glob("*.md"))]
BLOCK = re.compile(r"(<!-- table\n(.*?)-->\n).*?(<!-- end of table -->)", re.DOTALL)
KEPT = {"metrics.json": "metrics.json", "plots/paired.csv": "paired.csv", "plots/claims.csv": "claims.csv"}
SURE = 0.05
ROUNDING = 1e-9  # a standard deviation below it is that of one number, summed
NO_SHARES = ("chosen_c", "epoch", "queries")


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--keep"] and len(arguments) == 2:
        keep(arguments[1])
        arguments = []
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = [page for page in PAGES if filled(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(f"{page.relative_to(ROOT)}: its tables are not those of the kept studies; 'make docs' writes them")
        if not arguments:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return int(bool(stale and arguments))


def keep(study: str) -> None:
    """Copy what the tables need of a study's report; the demo's is in results/ itself."""
    source, target = ROOT / "results" / "studies" / study, ROOT / "docs" / "results" / study
    target.mkdir(parents=True, exist_ok=True)
    for name, kept in KEPT.items():
        (target / kept).unlink(missing_ok=True)
        if (source / name).exists():  # a study of one run has no pairs
            shutil.copyfile(source / name, target / kept)


def filled(text: str) -> str:
    """A page with every table written anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{table(yaml.safe_load(block[2]))}\n{block[3]}", text)


def table(entry: dict[str, Any]) -> str:
    """A table as Markdown: `rows` {run: title}, `columns` {"evaluation metric": title}."""
    folder = ROOT / "docs" / "results" / entry["study"]
    if not folder.exists():
        folder = ROOT / "results"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    path = next((path for path in (folder / "paired.csv", folder / "plots" / "paired.csv") if path.exists()), None)
    winners = told_apart(path) if path else {}
    lines = [["", *entry["columns"].values()], ["---"] * (1 + len(entry["columns"]))]
    for row, title in entry["rows"].items():
        lines.append([title, *(cell(metrics, winners, row, *column.split()) for column in entry["columns"])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(metrics: dict[str, Any], winners: dict[str, str], row: str, evaluation: str, metric: str) -> str:
    run, _, which = row.partition(" ")
    if row == "chance":
        found = next(
            (of[evaluation]["majority"] for of in metrics.values() if "majority" in of.get(evaluation, {})), None
        )
    else:
        name = f"{metric}_{which}" if which else metric
        found = metrics.get(run, {}).get(evaluation, {}).get(name)
    if found is None:
        return ""
    times = 1 if metric.startswith(NO_SHARES) else 100
    text = f"{times * found['mean']:.1f}"
    if found["n"] > 1 and found["std"] > ROUNDING and row != "chance":
        text += f" ± {times * found['std']:.1f}"
    elif found["n"] == 1 and row != "chance":
        text += " (one seed)"
    main = next(iter(metrics[run][evaluation])) if run in metrics else ""
    return f"**{text}**" if winners.get(evaluation) == row and metric == main else text


def told_apart(path: Path) -> dict[str, str]:
    """Evaluation -> its best run, where the paired test tells it from every other run of several seeds."""
    found: dict[str, str] = {}
    for evaluation, rows in _by_evaluation(path):
        judged = [float(row["p_corrected"]) for row in rows if row["p_corrected"]]
        if judged and max(judged) < SURE:
            found[evaluation] = rows[0]["a"]
    return found


def _by_evaluation(path: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for evaluation in dict.fromkeys(row["evaluation"] for row in rows):
        yield evaluation, [row for row in rows if row["evaluation"] == evaluation]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

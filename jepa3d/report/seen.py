"""How many test shapes of an evaluation its encoder saw in pretraining, or its classifier in training: exact and near
copies, as `jepa3d convert --overlap` found them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jepa3d.report.grid import Grid, grid
from jepa3d.report.study import Study


def sentence(source: str, found: Mapping[str, Any]) -> str:
    """What was found in one train split."""
    exact = f", {found['exact']} of them exactly" if found["exact"] else ""
    return f"{found['near']:,} of {found['test']:,} test shapes are in the train split of {source}, too{exact}"


def of_evaluation(study: Study, dataset: str) -> tuple[str, ...]:
    """A sentence for each train split that a training behind an evaluation on this data set has seen."""
    return tuple(sentence(source, found) for source, found in study.overlaps.get(dataset, {}).items())


def of_run(study: Study, source: str) -> str:
    """Which test shapes of the study a training on a data set's train split saw: a sentence for a model card."""
    counts = {name: of[source] for name, of in study.overlaps.items() if source in of}
    seen = [f"{found['near']:,} of {found['test']:,} of {name}" for name, found in counts.items() if found["near"]]
    if not counts:
        return "Whether test shapes are among them was not looked for."
    return f"Of the study's test shapes, it holds copies or near copies of: {', '.join(seen)}." if seen else (
        "No test shape of the study is among them, nor a near copy."
    )  # fmt: skip


def overlap_grid(study: Study) -> Grid:
    """Every pair of a test split and a train split that an evaluation of the study has."""
    rows = [
        [name, source, f"{found['test']:,}", f"{found['train']:,}", f"{found['exact']:,}", f"{found['near']:,}"]
        for name, of in study.overlaps.items()
        for source, found in of.items()
    ]
    head = ["test split of", "train split of", "test shapes", "train shapes", "exact copies", "with near copies"]
    return grid(head, rows, "  n")


def first_copies(study: Study, most: int = 20) -> list[Sequence[str]]:
    """The closest pairs: test shape, train shape, ratio."""
    found = [
        (copy["ratio"], f"{name}: {copy['test']}", f"{source}: {copy['train']}")
        for name, of in study.overlaps.items()
        for source, pair in of.items()
        for copy in pair["copies"]
    ]
    return [[test, train, f"{ratio:.2f}"] for ratio, test, train in sorted(found)[:most]]

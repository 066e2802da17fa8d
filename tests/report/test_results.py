"""The study's own result tables: studies made up in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jepa3d import project
from jepa3d.report import results
from jepa3d.report.grid import plain
from jepa3d.report.study import Study
from jepa3d.results.finding import PREDICTED, Details, Finding, share


def outcome(name: str, seed: int) -> Finding:
    return Finding(
        format=2, provenance={}, run="r", seed=seed, eval=name, dataset="toys", task={}, protocol="ours", notes=(),
        headline="accuracy", metrics={"accuracy": share(0.5, shapes=4, per_shape=PREDICTED)}, details=Details(),
        predicted=(0, 0, 1, 1), truth=(0, 1, 0, 1), ids=("a", "b", "c", "d"), classes=("x", "y"),
    )  # fmt: skip


def test_an_empty_cell_says_that_the_encoder_saw_every_label(tiny: dict[str, Any], write: Callable[[Any], Path]):
    tiny["runs"]["supervised"] = {"base": "jepa", "objective": {"kind": "supervised"}}
    tiny["evals"]["few"] = {"dataset": "toys", "task": {"kind": "few_shot", "way": 3}}
    tiny["studies"]["tiny"] = {
        "runs": ["jepa"], "evals": ["linear", "few"], "seeds": [0, 1],
        "also": [{"runs": ["supervised", "random_init"], "evals": ["linear"], "seeds": [0, 1]}],
    }  # fmt: skip
    params = project.load(write(tiny))
    chosen = params.chosen
    outcomes: dict[str, Any] = {run: {} for run in chosen.run_names()}
    for run, name, seed in chosen.cells():
        outcomes[run].setdefault(name, {})[seed] = outcome(name, seed)
    study = Study("tiny", "", chosen.run_names(), chosen.eval_names(), (0, 1), outcomes, {}, {}, None, {})
    [group] = results.groups(params, study, {})
    rows = {plain(row.cells[0]): row.cells for row in results.result_grid(params, group).rows}
    assert (rows["supervised"][2][0].text, rows["supervised"][2][0].small) == ("–", "trained with every label")
    assert (rows["random_init"][2][0].text, rows["random_init"][2][0].small) == ("–", "")
    assert plain(rows["jepa"][2]).startswith("50.0")

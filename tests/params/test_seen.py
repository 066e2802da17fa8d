"""Evaluations on few labels, and encoders that were trained with all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jepa3d import objectives, plugins, project, tasks
from jepa3d.layout import Layout
from jepa3d.params.seen import labels_seen
from jepa3d.problem import Problem
from jepa3d.stages.evaluate import evaluate

FEW = {
    "few_shot": {"kind": "few_shot", "way": 3},
    "few_shot_finetune": {"kind": "few_shot_finetune", "way": 3, "fit": {"steps": 2, "batch": 4}},
    "finetune": {"kind": "finetune", "labels": 0.1, "fit": {"steps": 2, "batch": 4}},
}
ENOUGH = {"knn": {"kind": "knn"}, "finetune": {"kind": "finetune", "labels": 1.0, "fit": {"steps": 2, "batch": 4}}}


@pytest.fixture
def load(tiny: dict[str, Any], write: Callable[[Any], Path]) -> Callable[..., Any]:
    """load(run, task, dataset="toys"): a study of one run with labels, or one that goes on from it, and one task."""

    def _load(run: str, task: dict[str, Any], dataset: str = "toys") -> Any:
        tiny["datasets"]["others"] = {"base": "toys", "seed": 7}
        tiny["runs"] |= {
            "supervised": {"base": "jepa", "objective": {"kind": "supervised"}},
            "later": {"base": "jepa", "init": "supervised"},
        }
        tiny["evals"] = {"asked": {"dataset": dataset, "task": task}}
        tiny["studies"]["tiny"] = {"runs": [run], "evals": ["asked"], "seeds": [0]}
        return project.load(write(tiny))

    return _load


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("run", ["supervised", "later"])
def test_few_labels_are_refused_to_an_encoder_that_saw_all_of_them(load, layout: Layout, run: str, kind: str):
    params = load(run, FEW[kind])
    words = f"the encoder of the run '{run}' was trained with every label of 'toys'"
    with pytest.raises(Problem, match=words):
        project.check_objectives(params)
    with pytest.raises(Problem, match=words):  # before it looks for any file
        evaluate(params, layout, run, "asked", 0)


@pytest.mark.parametrize("kind", FEW)
def test_other_data_and_other_runs_may_have_few_labels(load, kind: str):
    project.check_objectives(load("supervised", FEW[kind], "others"))
    project.check_objectives(load("jepa", FEW[kind]))


@pytest.mark.parametrize("kind", ENOUGH)
def test_evaluations_with_all_labels_are_for_every_run(load, kind: str):
    project.check_objectives(load("supervised", ENOUGH[kind]))


def test_the_labels_that_were_seen_are_those_of_the_whole_chain(load):
    params = load("later", ENOUGH["knn"])
    assert labels_seen(params, objectives, "later") == {"toys"}
    assert labels_seen(params, objectives, "random_init") == frozenset()


def test_every_plugin_says_what_it_does_with_labels():
    assert [kind for kind in plugins.known(objectives) if plugins.find(objectives, kind).LABELS] == ["supervised"]
    few = [kind for kind in plugins.known(tasks) if plugins.find(tasks, kind).few_labels(_settings(kind))]
    assert few == ["few_shot", "few_shot_finetune"]


def _settings(kind: str) -> Any:
    return plugins.find(tasks, kind).Config()

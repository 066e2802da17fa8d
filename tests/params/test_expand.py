"""Rows that nobody writes: sweeps, tasks x data sets, bases in every section, one file over another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jepa3d import project
from jepa3d.params import Params, run_slice, slice_of
from jepa3d.problem import Problem

Write = Callable[[Any], Path]


def problem_of(path: Path) -> Problem:
    with pytest.raises(Problem) as caught:
        project.load(path)
    return caught.value


def whole(params: Params) -> dict[str, Any]:
    """All that anything depends on."""
    return {
        section: {name: slice_of(entry) for name, entry in getattr(params, section).items()}
        for section in ("studies", "datasets", "patches", "models", "runs", "evals")
    }


# --- sweeps


def test_a_sweep_is_a_run_for_each_value_as_if_each_were_written(tiny: dict[str, Any], write: Write):
    tiny["runs"]["m"] = {"base": "jepa", "sweep": {"objective.mask.blocks": [1, 4]}}
    tiny["studies"]["tiny"]["runs"] = ["jepa", "m"]
    swept = project.load(write(tiny))
    del tiny["runs"]["m"]
    for blocks in (1, 4):
        tiny["runs"][f"m_blocks{blocks}"] = {"base": "jepa", "objective": {"mask": {"blocks": blocks}}}
    tiny["studies"]["tiny"]["runs"] = ["jepa", "m_blocks1", "m_blocks4"]
    by_hand = project.load(write(tiny))
    assert swept.chosen == by_hand.chosen
    assert set(swept.runs) == {"jepa", "random_init", "m_blocks1", "m_blocks4"}
    assert [run_slice(swept, name) for name in swept.runs] == [run_slice(by_hand, name) for name in swept.runs]
    assert swept.runs["m_blocks4"].about == "objective.mask.blocks blocks4"


@pytest.mark.parametrize(
    ("sweep", "names"),
    [
        ({"fit.lr": [1.0e-3, 0.5, 2.0]}, ["lr0p001", "lr0p5", "lr2p0"]),
        ({"fit.batch": [4, 8], "objective.loss": ["mse", "cosine"]},
         ["batch4_loss_mse", "batch4_loss_cosine", "batch8_loss_mse", "batch8_loss_cosine"]),
        ({"augment.scale": [[0.8, 1.25], None]}, ["scale0p8-1p25", "scale_none"]),
        ({"fit.clip": [None, 1.0]}, ["clip_none", "clip1p0"]),
        ({"augment": {"still": {"rotate": "none"}, "turned": {"rotate": "so3"}}}, ["still", "turned"]),
        ({"fit.epochs": [1, 2]}, ["epochs1", "epochs2"]),  # in the place of the base's steps
    ],
)  # fmt: skip
def test_the_names_say_the_values(tiny: dict[str, Any], write: Write, sweep: dict[str, Any], names: list[str]):
    tiny["runs"]["row"] = {"base": "jepa", "sweep": sweep}
    runs = project.load(write(tiny)).runs
    assert set(runs) == {"jepa", "random_init", *(f"row_{name}" for name in names)}


def test_a_changed_value_of_a_sweep_changes_its_own_run_alone(tiny: dict[str, Any], write: Write):
    tiny["runs"]["m"] = {"base": "jepa", "sweep": {"objective.mask.blocks": [1, 2]}}
    one = project.load(write(tiny))
    tiny["runs"]["m"]["sweep"]["objective.mask.blocks"] = [1, 3]
    other = project.load(write(tiny))
    assert set(one.runs) ^ set(other.runs) == {"m_blocks2", "m_blocks3"}
    assert all(run_slice(one, name) == run_slice(other, name) for name in set(one.runs) & set(other.runs))


def test_a_swept_run_is_a_base_without_its_sweep_and_a_name_for_all_its_runs(tiny: dict[str, Any], write: Write):
    tiny["runs"]["jepa"]["sweep"] = {"fit.batch": [4, 8]}
    tiny["execution"]["runs"] = {"jepa": {"log_every": 2}, "jepa_batch8": {"checkpoint_every": 3}}
    tiny["studies"]["tiny"]["also"] = [{"runs": "jepa", "evals": "knn", "seeds": [5]}]
    params = project.load(write(tiny))
    assert list(params.runs) == ["jepa_batch4", "jepa_batch8", "random_init"]
    assert params.chosen.runs == ("jepa_batch4", "jepa_batch8", "random_init")
    assert params.chosen.also[0].runs == ("jepa_batch4", "jepa_batch8")
    four, eight = (params.execution.of_run(f"jepa_batch{batch}") for batch in (4, 8))
    assert (four.log_every, four.checkpoint_every, eight.log_every, eight.checkpoint_every) == (2, 7, 2, 3)


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ([1], "must be a mapping"), ({}, "must be a mapping"), ({"fit.lr": 1.0}, "must be a list"),
        ({"fit.lr": []}, "must be a list"), ({"augment": [{"shift": 0.1}]}, "needs a label"),
        ({"fit.batch": [4, 4]}, "two runs are called 'm_batch4'"),
    ],
)  # fmt: skip
def test_a_sweep_that_is_none_is_refused(tiny: dict[str, Any], write: Write, sweep: Any, words: str):
    tiny["runs"]["m"] = {"base": "jepa", "sweep": sweep}
    problem = problem_of(write(tiny))
    assert problem.what.startswith("runs.m.sweep")
    assert words in problem.what


def test_a_wrong_key_or_value_of_a_sweep_is_a_mistake_of_its_run(tiny: dict[str, Any], write: Write):
    tiny["runs"]["m"] = {"base": "jepa", "sweep": {"fit.lrr": [1.0, 2.0]}}
    assert problem_of(write(tiny)).what == "runs.m_lrr1p0.fit.lrr: unknown key"
    tiny["runs"]["m"]["sweep"] = {"fit.batch": [8, "many"]}
    assert problem_of(write(tiny)).what.startswith("runs.m_batch_many.fit.batch")
    tiny["runs"]["m"]["sweep"] = {"patches": ["flat", "flatt"]}
    assert problem_of(write(tiny)).what.startswith("runs.m_patches_flatt.patches: there is no patch scheme")


@pytest.mark.parametrize("first", [True, False])
def test_a_name_that_is_made_twice_is_refused(tiny: dict[str, Any], write: Write, first: bool):
    other, swept = {"m_batch4": {"base": "jepa"}}, {"m": {"base": "jepa", "sweep": {"fit.batch": [4, 8]}}}
    tiny["runs"] |= other | swept if first else swept | other
    assert problem_of(write(tiny)).what == "runs.m: makes 'm_batch4', which is there already"


# --- tasks x data sets


def crossed(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["datasets"]["more"] = {"base": "toys", "seed": 3}
    tiny["tasks"] = {"near": {"kind": "knn"}, "nearest": {"base": "near", "k": [1]}}
    tiny["evals"]["all"] = {"task": ["near", "nearest"], "dataset": ["toys", "more"]}
    return tiny


def test_evaluations_are_every_task_on_every_data_set(tiny: dict[str, Any], write: Write):
    tiny = crossed(tiny)
    tiny["studies"]["tiny"]["evals"] = ["all", "linear"]
    params = project.load(write(tiny))
    names = ["near_toys", "near_more", "nearest_toys", "nearest_more"]
    assert set(params.evals) == {"linear", "knn", *names}
    assert params.chosen.evals == (*names, "linear")
    assert [params.evals[name].dataset for name in names] == ["toys", "more"] * 2
    assert params.evals["nearest_more"].task["k"] == [1]
    assert slice_of(params.evals["near_toys"]) == slice_of(params.evals["knn"])


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({"task": ["near", "nearest"], "dataset": "more", "name": "{task}"}, ["near", "nearest"]),
        ({"task": "near", "dataset": {"a": "toys", "b": "more"}}, ["near_a", "near_b"]),
        ({"task": {"kind": "knn"}, "dataset": ["toys", "more"]}, ["some_toys", "some_more"]),
        ({"task": ["near"], "dataset": "toys", "name": "on_{dataset}-{task}"}, ["on_toys-near"]),
        ({"task": "near", "dataset": "toys"}, ["some"]),
        ({"task": {"base": "near", "k": [7]}, "dataset": "toys"}, ["some"]),
    ],
)
def test_a_pattern_says_their_names(tiny: dict[str, Any], write: Write, entry: dict[str, Any], names: list[str]):
    tiny = crossed(tiny)
    del tiny["evals"]["all"]
    tiny["evals"]["some"] = entry
    assert set(project.load(write(tiny)).evals) == {"linear", "knn", *names}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "{tusk}"}, "evals.all.name: '{tusk}' is no pattern"),
        ({"name": "{task}"}, "evals.all: two evaluations are called 'near'"),
        ({"name": "a/{task}{dataset}"}, "evals.all.name"),
        ({"name": 5}, "evals.all.name"),
        ({"task": []}, "evals.all.task: must be a name or a list"),
        ({"task": ["nearr", "near"]}, "evals.all.task: there is no task called 'nearr'"),
        ({"dataset": ["toys", 5]}, "evals.all.dataset: must be a name or a list"),
        ({"dataset": ["toyz", "toys"]}, "evals.near_toyz.dataset: there is no data set called 'toyz'"),
        ({"name": "knn", "task": ["near"], "dataset": "toys"}, "evals.all: makes 'knn', which is there already"),
    ],
)
def test_a_wrong_crossing_is_refused(tiny: dict[str, Any], write: Write, change: dict[str, Any], what: str):
    tiny = crossed(tiny)
    tiny["evals"]["all"] |= change
    tiny["studies"]["tiny"]["evals"] = ["linear"]
    assert problem_of(write(tiny)).what.startswith(what)


def test_a_mistake_in_a_task_is_told_once(tiny: dict[str, Any], write: Write):
    tiny = crossed(tiny)
    tiny["tasks"]["near"]["gird"] = 1
    assert problem_of(write(tiny)).what == "tasks.near.gird: unknown key"


def test_a_changed_task_changes_its_own_evaluations_alone(tiny: dict[str, Any], write: Write):
    tiny = crossed(tiny)
    one = whole(project.load(write(tiny)))
    tiny["tasks"]["nearest"]["k"] = [3]
    other = whole(project.load(write(tiny)))
    assert {name for name in one["evals"] if one["evals"][name] != other["evals"][name]} == {
        "nearest_toys",
        "nearest_more",
    }
    assert {**one, "evals": 0} == {**other, "evals": 0}


# --- bases and files


def test_every_section_has_bases(tiny: dict[str, Any], write: Write):
    tiny["studies"]["one"] = {"base": "tiny", "seeds": [0]}
    tiny["datasets"]["larger"] = {"base": "toys", "train": 90}
    tiny["patches"]["live"] = {"base": "flat", "live": True}
    tiny["models"]["deep"] = {"base": "tiny", "depth": 2}
    params = project.load(write(tiny))
    assert (params.studies["one"].runs, params.studies["one"].seeds) == (params.chosen.runs, (0,))
    assert (params.dataset("larger").train, params.dataset("larger").points) == (90, 128)  # type: ignore[attr-defined]
    assert (params.patches["live"].points, params.patches["live"].live) == (128, True)
    assert (params.models["deep"].width, params.models["deep"].depth) == (24, 2)  # type: ignore[attr-defined]
    tiny["models"]["deep"]["base"] = "tinny"
    assert problem_of(write(tiny)).what == "models.deep.base: there is no model called 'tinny'"


def over(path: Path, tree: dict[str, Any]) -> Path:
    """A file in a folder of its own, over another."""
    mine = path.parent / "mine" / "params.yaml"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text(yaml.safe_dump({"extends": "../params.yaml", **tree}))
    return mine


def test_a_users_file_lies_over_ours(tiny: dict[str, Any], write: Write):
    ours = write(tiny)
    mine = over(
        ours,
        {
            "study": "mine",
            "studies": {"mine": {"base": "tiny", "runs": ["jepa", "wide"]}},
            "runs": {"jepa": {"fit": {"lr": 0.5}}, "wide": {"base": "jepa", "model": "wide"}},
            "models": {"wide": {"base": "tiny", "width": 48}},
            "execution": {"log_every": 1},
        },
    )
    one, other = project.load(ours), project.load(mine)
    assert other.chosen.runs == ("jepa", "wide")
    assert other.runs["jepa"].fit == one.runs["jepa"].fit.model_copy(update={"lr": 0.5})
    assert other.runs["random_init"].fit.lr == 0.5, "what takes over from a run that is changed is changed"
    assert (other.execution.log_every, other.execution.checkpoint_every) == (1, 7)
    assert other.evals == one.evals
    assert other.models["tiny"] == one.models["tiny"]


def test_files_that_extend_each_other_are_refused(tiny: dict[str, Any], write: Write):
    mine = over(write(tiny), {})
    write({"extends": "mine/params.yaml"})
    problem = problem_of(mine)
    assert "the files form a cycle" in problem.what
    assert problem.why == "params.yaml -> params.yaml -> params.yaml"


@pytest.mark.parametrize(("value", "words"), [("nowhere.yaml", "no such file"), (5, "one file"), ("", "one file")])
def test_a_file_that_is_not_there_is_no_base(write: Write, value: Any, words: str):
    assert words in problem_of(write({"extends": value})).what


def test_a_mistake_in_the_file_below_is_named_once(tiny: dict[str, Any], write: Write):
    tiny["runs"]["jepa"]["fit"]["lrr"] = 1
    assert problem_of(over(write(tiny), {})).what == "runs.jepa.fit.lrr: unknown key"


# --- anything at all

ODD: list[Any] = [
    None, True, -1, 1.5, "", "x", [], {}, [1], [None], {"a": 1}, {1: 2}, {None: 1}, [[]], [{}], 10**15, "jepa",
    ["jepa", 5], {"base": "jepa"}, {"kind": 5}, float("inf"), "1e5", "é" * 200,
]  # fmt: skip


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value of a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [*([at] if at else []), *(place for key, value in inner for place in places(value, (*at, key)))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_anywhere_it_is_taken_or_a_problem(tiny: dict[str, Any], write: Write, data: st.DataObject):
    tree = crossed(yaml.safe_load(yaml.safe_dump(tiny)))
    tree["runs"]["m"] = {"base": "jepa", "sweep": {"fit.lr": [1.0, 2.0]}}
    tree["execution"]["runs"] = {"m": {"log_every": 2}}
    *path, last = data.draw(st.sampled_from(places(tree)))
    at = tree
    for step in path:
        at = at[step]
    if isinstance(at, dict) and data.draw(st.booleans()):
        last = data.draw(st.sampled_from(["base", "kind", "sweep", "name", "extends", "also", 5, None]))
    at[last] = data.draw(st.sampled_from(ODD))
    with contextlib.suppress(Problem):
        project.load(write(tree))

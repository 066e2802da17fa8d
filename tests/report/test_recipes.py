"""Recipes: a run or an evaluation that breaks any one value of what was published loses its verdict."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from jepa3d import encoders, objectives, plugins, project
from jepa3d.params import Augment, Fit, Params, Run, Scheme
from jepa3d.report import entries, recipes, tables
from jepa3d.report.entries import FREE, changed, differences, eval_entry, is_free, run_entry
from jepa3d.report.recipes import MEASURES, RECIPES, Measure, Recipe
from jepa3d.report.study import Study
from jepa3d.results.finding import Details, Finding, share

ROOT = Path(__file__).parents[2]
METRICS = {reading.metric for of in MEASURES.values() for one in of for reading in one.readings}
EVERY = [(key, measure) for key, of in MEASURES.items() for measure in of]


def study(params: Params) -> Study:
    """Every run with every evaluation of the recipes, one seed."""
    metrics = {name: share(0.5, shapes=4) for name in ["accuracy", *sorted(METRICS)]}
    found = Finding(
        format=2, provenance={}, run="r", seed=0, eval="e", dataset="d", task={}, protocol="p", notes=(),
        headline="accuracy", metrics=metrics, details=Details(), predicted=None, truth=(0,) * 4,
        ids=("a", "b", "c", "d"), classes=("x", "y"),
    )  # fmt: skip
    outcomes: dict[str, Any] = {run: {} for run in params.chosen.run_names()}
    for run, name, _ in params.chosen.cells():
        outcomes[run][name] = {0: found}
    return Study("all", "", params.chosen.run_names(), params.chosen.eval_names(), (0,), outcomes, {}, {}, None, {})


def leaves(entry: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of an entry by its dotted key; entries in lists by their place."""
    if isinstance(entry, dict) and entry:
        for name, value in entry.items():
            yield from leaves(value, f"{key}.{name}".lstrip("."))
    elif isinstance(entry, list) and entry and all(isinstance(one, dict) for one in entry):
        for place, value in enumerate(entry):
            yield from leaves(value, f"{key}.{place}")
    else:
        yield key, entry


def other(value: Any) -> Any:
    """A value that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 1.01 + 0.001
    return {"str": f"not {value}", "list": [*(value or []), 1], "dict": {"more": 1}}.get(type(value).__name__, 0.5)


def broken(entry: Any, key: str) -> Any:
    """The entry with another value at one key."""
    made = copy.deepcopy(entry)
    at, *path = made, *key.split(".")
    for step in path[:-1]:
        at = at[int(step) if isinstance(at, list) else step]
    last = int(path[-1]) if isinstance(at, list) else path[-1]
    at[last] = other(at[last])
    return made


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.run)
def test_a_run_that_breaks_any_one_value_of_its_recipe_loses_its_verdict(recipe: Recipe):
    params = recipes.ours()
    found, whole = study(params), run_entry(params, recipe.run)
    others = tables.run_entries(params, found)

    def shown(entry: Any) -> bool:
        rows = tables.row_of(params, found, {**others, recipe.run: entry}, "pb_t50_rs", recipe)
        return any(ours.run == recipe.run for ours in rows.ours)

    assert shown(whole)
    assert {key for key, _ in leaves(whole) if shown(broken(whole, key)) != is_free(key)} == set()
    assert sum(not is_free(key) for key, _ in leaves(whole)) > (30 if recipe.run == "scratch" else 60)


@pytest.mark.parametrize(("key", "measure"), EVERY, ids=lambda one: one if isinstance(one, str) else one.evaluation)
def test_an_evaluation_that_breaks_any_one_value_of_its_measure_loses_its_verdict(
    key: str, measure: Measure, monkeypatch: pytest.MonkeyPatch
):
    params, recipe = recipes.ours(), next(one for one in RECIPES if one.method in measure.methods)
    found = study(params)
    whole = eval_entry(params, recipe.run, measure.evaluation)
    seen = {measure.evaluation: whole}
    monkeypatch.setattr(tables, "eval_entry", lambda params, run, name: seen.get(name, {}))

    def shown(entry: Any) -> bool:
        seen[measure.evaluation] = entry
        return bool(tables.measuring(params, found, key, recipe, recipe.run, measure))

    assert shown(whole)
    assert {name for name, _ in leaves(whole) if shown(broken(whole, name)) != is_free(name)} == set()
    assert sum(not is_free(name) for name, _ in leaves(whole)) > 12


def test_an_entry_has_every_field_that_there_is():
    """A field that is added later is required from the day on which it is added."""
    entry = recipes.required("document")
    assert set(entry) == set(Run.model_fields)
    assert set(entry["fit"]) == set(Fit.model_fields)
    assert set(entry["augment"]) == set(Augment.model_fields)
    assert set(entry["patches"]) == set(Scheme.model_fields)
    assert set(entry["model"]) == set(plugins.find(encoders, "transformer").Config.model_fields)
    assert set(entry["objective"]) == {*plugins.find(objectives, "jepa").Config.model_fields, "reads"}


def test_every_free_key_is_one_and_has_its_reason():
    params = recipes.ours()
    seen = {key for run in params.runs for key, _ in leaves(run_entry(params, run))}
    seen |= {key for name in params.evals for key, _ in leaves(eval_entry(params, "document", name))}
    assert [pattern for pattern in FREE if not any(fnmatchcase(key, pattern) for key in seen)] == []
    assert all(FREE.values())


@pytest.mark.parametrize(
    "change",
    [
        {"fit": {"lr": 1e-2}},
        {"fit": {"batch": 8}},
        {"objective": {"ema": {"start": 0.5}}},
        {"objective": {"target_norm": "none"}},
        {"augment": {"rotate": "none"}},
        {"patches": "flat1024"},
        {"data": "both_lists"},
        {"init": "paper"},
        {"objective": {"target": "coordinates"}},
    ],
    ids=str,
)
def test_a_run_of_params_yaml_that_is_not_the_method_is_no_reproduction(tmp_path: Path, change: dict[str, Any]):
    data = {
        "extends": str(recipes.FILE),
        "runs": {"mine": {"base": "document", **change}, "same": {"base": "document"}},
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(data))
    params, wanted = project.load(path), recipes.required("document")
    assert differences(wanted, run_entry(params, "same")) == []
    assert differences(wanted, run_entry(params, "mine")) != []
    twin = differences(recipes.COORDINATES.requires, run_entry(params, "mine"))
    assert (not twin) == (change == {"objective": {"target": "coordinates"}})


@pytest.mark.parametrize(
    ("title", "run"),
    [
        (recipes.DOCUMENTED, "jepa_document"),
        ("3D-JEPA, as the paper seems to have it", "jepa_paper"),
        ("Transformer, from scratch", "document_random_init"),
        ("Point-BERT", "point_bert_document"),
        ("Point-MAE", "point_mae_document"),
        ("Point-M2AE", "point_m2ae_document"),
        ("Point-JEPA", "point_jepa_document"),
    ],
)
def test_of_the_runs_of_params_yaml_only_its_own_stands_for_a_row(title: str, run: str):
    params = project.load(ROOT / "params.yaml")
    [recipe] = [recipe for recipe in RECIPES if recipe.title == title]
    first, *more = [name for name in params.runs if not differences(recipe.requires, run_entry(params, name))]
    assert first == run
    assert all(name.startswith("paper_") for name in more)  # of an ablation, whose middle is the run itself


def test_the_studies_of_the_documents_size_measure_what_they_say():
    """Of `paper` every fine-tuning is the honest measure of its benchmark, of `community` the authors'."""
    params = project.load(ROOT / "params.yaml")
    of = {
        run: next(
            (one for one in RECIPES if not differences(one.requires, run_entry(params, run))), recipes.COORDINATES
        )
        for run in {*params.studies["paper"].run_names(), *params.studies["community"].run_names()}
    }
    for name, words in (("paper", "honest"), ("community", "as published")):
        met: dict[str, set[str]] = {}
        for run, evaluation in dict.fromkeys((cell.run, cell.evaluation) for cell in params.studies[name].cells()):
            for key in tables.benchmarks(params, evaluation):
                for measure in recipes.measures(key, of[run].method):
                    if not differences(measure.requires(of[run]), eval_entry(params, run, evaluation)):
                        met.setdefault(evaluation, set()).update(reading.title for reading in measure.readings)
        kinds = {one: params.evals[one].task["kind"] for one in params.studies[name].eval_names()}
        tuned = [one for one, kind in kinds.items() if kind in ("finetune", "part_seg")]
        assert len(tuned) > 3
        assert [one for one in tuned if not any(words in title for title in met.get(one, ()))] == []


@pytest.mark.parametrize(
    ("run", "change", "said"),
    [
        ("point_bert", {"data": "shapenet55"}, "data.0.whole: False instead of True"),
        ("point_bert", {"objective": {"momentum": 0.99}}, "objective.momentum: 0.99 instead of 0.999"),
        ("dvae", {"objective": {"codes": 512}}, "objective.reads.objective.codes: 512 instead of 8192"),
        ("dvae", {"fit": {"epochs": 30}}, "objective.reads.fit.epochs: 30 instead of 300"),
    ],
)
def test_a_first_stage_that_is_another_takes_its_second_out_of_the_row(
    tmp_path: Path, run: str, change: dict[str, Any], said: str
):
    own: dict[str, Any] = {"extends": str(ROOT / "params.yaml"), "runs": {"own_dvae": {"base": "dvae_document"}}}
    own["runs"]["own_point_bert"] = {"base": "point_bert_document", "objective": {"reads": "own_dvae"}}
    own["runs"][f"own_{run}"] |= {
        key: own["runs"][f"own_{run}"].get(key, {}) | value if isinstance(value, dict) else value
        for key, value in change.items()
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(own))
    [recipe] = [recipe for recipe in RECIPES if recipe.title == "Point-BERT"]
    assert differences(recipe.requires, run_entry(project.load(path), "own_point_bert")) == [said]


def test_differences_name_the_key_and_both_values():
    wanted = {"fit": {"epochs": 300}, "objective": {"kind": "jepa", "blocks": 4}, "data": [{"kind": "a", "n": 1}]}
    found = {
        "fit": {"epochs": 20, "more": 1},
        "objective": {"kind": "mae", "blocks": 2},
        "data": [{"kind": "a", "n": 2}],
    }
    assert differences(wanted, found) == [
        "fit.epochs: 20 instead of 300",
        "fit.more: 1 instead of none",
        "objective.kind: mae instead of jepa",
        "data.0.n: 2 instead of 1",
    ]
    assert differences(wanted, wanted) == []
    assert differences({"data": [{"kind": "a"}]}, {"data": [{"kind": "a"}, {"kind": "b"}]}) == [
        "data: a, b instead of a"
    ]


def test_a_row_of_an_ablation_is_its_run_with_other_values():
    entry = recipes.required("document")
    made = changed(entry, {"objective.mask.blocks": 2, "objective.mask.fill": "exact"})
    assert differences(entry, made) == [
        "objective.mask.blocks: 2 instead of 4",
        "objective.mask.fill: exact instead of literal",
    ]
    assert entry["objective"]["mask"]["blocks"] == 4
    assert entries.changed(entry, {}) == entry

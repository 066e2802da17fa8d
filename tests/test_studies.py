"""What params.yaml promises of its studies: they can be planned, and the comparisons are on equal terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jepa3d import project
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.objectives import dvae
from jepa3d.params import Params
from jepa3d.params.models import slice_of
from jepa3d.params.study import run_slice
from jepa3d.report.entries import differences
from jepa3d.report.recipes import RECIPES
from jepa3d.report.study import Study
from jepa3d.report.sweeps import groups
from jepa3d.report.tables import run_entries
from jepa3d.report.terms import Terms, budget, of_run
from jepa3d.train import first_stage
from jepa3d.train.objective import Setup

PARAMS = Path(__file__).parent.parent / "params.yaml"


@pytest.fixture(scope="module")
def params() -> Params:
    found = project.load(PARAMS)
    project.check_objectives(found)
    return found


def test_every_study_is_planned_down_to_what_is_downloaded(params: Params, tmp_path: Path):
    for name, study in params.studies.items():
        jobs = Graph(params.choosing(name), Layout(tmp_path)).jobs()
        made = {path for job in jobs for path in job.writes}
        assert [path for job in jobs for path in job.reads if path not in made] == [], name
        assert {job.names[0] for job in jobs if job.verb == "pretrain"} >= set(study.run_names()), name


def trained(params: Params, study: str) -> dict[str, Any]:
    """The runs of a study that train, with what was trained for them to read."""
    runs = {name: params.runs[name] for name in params.studies[study].run_names()}
    return {name: run for name, run in runs.items() if run.fit.steps != 0}


@pytest.mark.parametrize("study", ["comparison", "generic_comparison", "generic_check", "ablation"])
def test_all_methods_see_the_same_shapes_in_the_same_way(params: Params, study: str):
    runs = trained(params, study)
    assert len(runs) > 3
    terms = {name: (run.data, run.augment, run.fit.steps, run.fit.batch) for name, run in runs.items()}
    assert len(set(terms.values())) == 1, terms


@pytest.mark.slow
def test_the_second_budget_is_as_many_operations_as_jepa_has(params: Params, tmp_path: Path):
    found: dict[str, Terms] = {}
    for name in params.choosing("equal_compute").chosen.run_names():
        for run in (*params.runs[name].stages_before, name):
            entry, reads = params.runs[run], params.runs[run].objective.reads
            steps = entry.fit.steps or 0
            of = of_run(params, run, steps, [], 2, None if reads is None else tmp_path / reads)
            found[run] = of._replace(before=0.0 if reads is None else found[reads].pflop)
            if entry.objective.kind == "dvae":  # random weights, for the run that reads it
                settings = dvae.Config.model_validate(entry.objective.options())
                setup = Setup(params.model(entry.model), params.patches[entry.patches])
                first_stage.save(tmp_path / run, dvae.Objective(settings, setup), settings, setup, {})
    apart = {name: of for name, of in found.items() if name in params.studies["equal_compute"].run_names()}
    assert [name for name, of in apart.items() if "compute" not in budget(found["jepa"], of)] == []


@pytest.mark.parametrize("study", ["comparison", "generic_comparison"])
def test_every_encoder_that_is_compared_has_a_row_with_random_weights(params: Params, study: str):
    runs = {name: params.runs[name] for name in params.studies[study].run_names()}
    random = {run.model for run in runs.values() if run.objective.kind == "random_init"}
    assert {run.model for run in runs.values()} <= random


@pytest.mark.parametrize(
    ("run", "twin"),
    [("jepa", "coordinates"), ("generic_jepa", "generic_coordinates"), ("jepa_document", "coordinates_document")],
)
def test_the_twin_that_predicts_coordinates_differs_in_its_target_alone(params: Params, run: str, twin: str):
    one, other = (slice_of(params.runs[name]) for name in (run, twin))
    assert {key for key in one if one[key] != other[key]} == {"about", "objective"}
    own, theirs = one["objective"], other["objective"]
    assert theirs.pop("target") == "coordinates"
    own.pop("ema", None), theirs.pop("ema", None)  # it has none
    assert own == theirs


def test_every_row_of_the_documents_tables_has_a_run_in_the_paper_study(params: Params):
    params = params.choosing("paper")
    runs = params.chosen.run_names()
    empty: Any = {}
    study = Study("paper", "", runs, (), (0,), empty, empty, empty, None, empty)
    entries = run_entries(params, study)
    for recipe in RECIPES:
        apart = {name: differences(recipe.requires, entry) for name, entry in entries.items()}
        assert [name for name, found in apart.items() if not found], (recipe.title, min(apart.values(), key=len))


@pytest.mark.parametrize(
    "study", ["comparison", "equal_compute", "generic_comparison", "generic_check", "ablation", "paper_ablation"]
)
def test_no_training_is_there_twice_under_two_names(params: Params, study: str):
    chosen = params.choosing(study)
    seen: dict[str, str] = {}
    for name in chosen.chosen.run_names():
        same = seen.setdefault(repr(run_slice(chosen, name)), name)
        assert same == name


def test_m_and_r_are_ablated_over_all_the_values_that_are_asked_for(params: Params):
    for study in ("ablation", "paper_ablation"):
        empty: Any = {}
        runs = params.studies[study].run_names()
        entries = run_entries(params, Study(study, "", runs, (), (0,), empty, empty, empty, None, empty))
        assert [[*of] for of in groups(entries, "objective.mask.blocks")] == [[1, 2, 4, 8], [1, 2, 4, 8]]
        assert [[*of] for of in groups(entries, "objective.mask.ratio")] == [[0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]]


def test_one_change_at_a_time(params: Params):
    """Every row of the ablation is the shortened run with changes of its objective, or of its patches."""
    base = slice_of(params.runs["short_jepa"])
    for name in set(params.studies["ablation"].run_names()) - {"random_init"}:
        row = slice_of(params.runs[name])
        apart = {key for key in base if row[key] != base[key]} - {"about"}
        assert apart in (set(), {"objective"}, {"patches"}), (name, apart)


@pytest.mark.parametrize("study", ["comparison", "generic_comparison", "ablation"])
def test_predictors_are_as_deep_as_that_of_jepa_where_depth_is_not_the_change(params: Params, study: str):
    """A predictor of another kind begins with the defaults of the document's size: its depth has to be said again."""
    for name, run in trained(params, study).items():
        asked = run.objective.options()
        if asked["kind"] == "jepa" and "depth" not in name:
            assert asked["predictor"]["depth"] == 2, name

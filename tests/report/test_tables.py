"""Which numbers of ours stand beside which published ones, and what verdict they get: studies made up in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jepa3d import project
from jepa3d.params import Params
from jepa3d.report import ablations, document, published, recipes, tables, text
from jepa3d.report.grid import plain
from jepa3d.report.published import ABSTRACT, DOCUMENT, OURS
from jepa3d.report.study import Study
from jepa3d.results.finding import PREDICTED, Details, Finding, share

PARAMS = """
study: paper
studies:
  paper:
    runs: [document, paper, short, two_blocks, random_init]
    evals: [ft_pb, ft_few_labels, ft_toys, parts]
    seeds: [0, 1, 2]
datasets:
  shapenet55: {kind: shapenet55}
  pb: {kind: scanobjectnn, variant: pb_t50_rs}
  toys: {kind: procedural}
  shapenetpart: {kind: shapenetpart}
patches:
  flat1024: {points: 1024, levels: [{num: 64, size: 32}]}
  flat2048: {points: 2048, levels: [{num: 128, size: 32}]}
models:
  paper: {width: 384, depth: 12, heads: 6}
runs:
  document: {data: shapenet55, patches: flat1024, model: paper, objective: {kind: jepa}, fit: {epochs: 300}}
  short: {base: document, fit: {epochs: 20}}
  two_blocks: {base: document, objective: {mask: {blocks: 2}}}
  paper:
    base: document
    objective:
      mask: {seeds: fps, block_scale: [0.15, 0.2], context: block}
      predictor: {kind: cross}
      loss: cosine
      target_sees: all
    fit: {epochs: 150}
  random_init: {base: document, objective: {kind: random_init}, fit: {steps: 0}}
evals:
  ft_pb: {dataset: pb, patches: flat2048, task: {kind: finetune}}
  ft_few_labels: {dataset: pb, patches: flat2048, task: {kind: finetune, labels: 0.1}}
  ft_toys: {dataset: toys, patches: flat2048, task: {kind: finetune}}
  parts: {dataset: shapenetpart, patches: flat2048, task: {kind: part_seg}}
"""


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    path: Path = tmp_path_factory.mktemp("tables") / "params.yaml"
    path.write_text(PARAMS)
    return project.load(path)


def outcome(accuracy: float, seed: int, community: float = 0.01, shapes: int = 1000) -> Finding:
    """`accuracy` of the shapes are right, which ones changes from seed to seed; predictions are 0 and truth is 0."""
    right = np.random.default_rng(seed).permutation(shapes) < round(accuracy * shapes)
    score = float(right.mean())
    metrics = {
        "accuracy": share(score, shapes=shapes, per_shape=PREDICTED, chosen="honest"),
        "accuracy_community": share(score + community, shapes=shapes, of="accuracy", chosen="community"),
    }
    return Finding(
        format=2, provenance={}, run="r", seed=seed, eval="e", dataset="pb", task={}, protocol="our protocol", notes=(),
        headline="accuracy", metrics=metrics, details=Details(), predicted=tuple(np.where(right, 0, 1).tolist()),
        truth=(0,) * shapes, ids=tuple(map(str, range(shapes))), classes=("a", "b"),
    )  # fmt: skip


def study(params: Params, **accuracies: dict[str, list[float]]) -> Study:
    """run={evaluation: [accuracy of seed 0, of seed 1, ...]}"""
    chosen = params.chosen
    outcomes: dict[str, dict[str, dict[int, Finding]]] = {run: {} for run in chosen.runs}
    for run, of_run in accuracies.items():
        for name, values in of_run.items():
            outcomes[run][name] = {seed: outcome(value, seed) for seed, value in enumerate(values)}
    return Study("paper", "", chosen.runs, chosen.evals, chosen.seeds, outcomes, {}, {}, None, {})


def line(params: Params, found: Study, benchmark: str, title: str) -> tables.Row:
    sections = [section for table in tables.tables(params, found) for section in table.sections]
    [section] = [section for section in sections if section.key == benchmark]
    [row] = [row for row in section.rows if row.title == title]
    return row


def test_without_any_run_every_line_is_there_and_nothing_is_ours(params):
    found = tables.tables(params, study(params))
    assert [table.name for table in found] == ["classification", "few_shot", "parts", "frozen"]
    assert all(table.run == 0 and table.lines > 0 for table in found)
    lines = [row for table in found for row in document.document_grid(table).rows if row.mark != "section"]
    assert len(lines) == sum(table.lines for table in found)
    assert all(plain(row.cells[-1]) == "not run" for row in lines)


def test_the_documents_run_stands_beside_the_documents_number(params):
    row = line(params, study(params, document={"ft_pb": [0.868, 0.866, 0.870]}), "pb_t50_rs", recipes.DOCUMENTED)
    assert {source: cell.value for source, cell in row.claimed.items()} == {DOCUMENT: 86.8}
    honest, community = row.ours
    assert (honest.title, honest.run, honest.evaluation) == (recipes.HONEST, "document", "ft_pb")
    assert honest.interval.mean == pytest.approx(86.8)
    assert honest.interval.low < 86.8 < honest.interval.high
    assert honest.verdicts[DOCUMENT].word == "reproduced"
    assert community.title == recipes.AS_PUBLISHED
    assert community.interval.mean == pytest.approx(87.8)


def test_the_papers_run_is_held_against_the_abstract_only(params):
    row = line(
        params,
        study(params, paper={"ft_pb": [0.868, 0.866, 0.870]}),
        "pb_t50_rs",
        f"{OURS}, as the paper seems to have it",
    )
    assert set(row.ours[0].verdicts) == {ABSTRACT}
    assert row.claimed[ABSTRACT].value == 88.65


def test_a_run_far_off_is_below(params):
    row = line(params, study(params, document={"ft_pb": [0.800, 0.801, 0.799]}), "pb_t50_rs", recipes.DOCUMENTED)
    assert row.ours[0].verdicts[DOCUMENT].word == "below"


@pytest.mark.parametrize(
    ("mean", "word"),
    [(0.855, "below"), (0.860, "inconclusive"), (0.862, "reproduced"), (0.875, "reproduced"), (0.880, "above")],
)
def test_a_result_near_point_maes_number_does_not_reproduce_the_documents(params, mean: float, word: str):
    """86.8, claimed to be 1.6 above Point-MAE: 85.5, which is .3 above it, is no reproduction. Seeds of s.d. .3."""
    seeds = [mean - 0.003, mean, mean + 0.003]
    row = line(params, study(params, document={"ft_pb": seeds}), "pb_t50_rs", recipes.DOCUMENTED)
    assert row.ours[0].verdicts[DOCUMENT].word == word


def test_the_size_of_a_shared_test_set_is_no_reason_to_agree(params):
    """A hundred times fewer test shapes widen our printed interval, and not the verdict's."""
    few = {seed: outcome(0.8, seed, shapes=20) for seed in range(3)}
    found = study(params)
    found.outcomes["document"]["ft_pb"] = few
    ours = line(params, found, "pb_t50_rs", recipes.DOCUMENTED).ours[0]
    assert ours.interval.high > 86.8
    assert ours.verdicts[DOCUMENT].word == "below"


def test_scattered_seeds_cannot_tell_it_from_no_pretraining(params):
    """.80, .87, .93: the interval of three such seeds is wider than the ten points between 86.8 and 77.2."""
    row = line(params, study(params, document={"ft_pb": [0.80, 0.87, 0.93]}), "pb_t50_rs", recipes.DOCUMENTED)
    assert row.ours[0].verdicts[DOCUMENT].word == "inconclusive"
    assert "from scratch (77.2)" in row.ours[0].verdicts[DOCUMENT].why


@pytest.mark.parametrize(
    ("run", "evaluation"),
    [("document", "ft_toys"), ("document", "ft_few_labels"), ("short", "ft_pb"), ("two_blocks", "ft_pb")],
)
def test_other_data_fewer_labels_or_another_training_is_never_compared(params, run, evaluation):
    found = study(params, **{run: {evaluation: [0.868, 0.866, 0.870]}})
    assert sum(table.run for table in tables.tables(params, found)) == 0


def test_what_keeps_a_run_on_public_data_from_being_compared_is_said(params):
    found = study(params, short={"ft_pb": [0.8]}, document={"ft_few_labels": [0.7], "ft_toys": [0.9]})
    misses = {(miss.run, miss.evaluation): miss.why for miss in tables.near_misses(params, found)}
    assert misses == {
        ("short", "ft_pb"): ("fit.epochs: 20 instead of 300",),
        ("document", "ft_few_labels"): ("task.labels: 0.1 instead of 1.0",),
    }


def test_a_network_from_scratch_is_held_against_the_scratch_row(params):
    row = line(params, study(params, random_init={"ft_pb": [0.772, 0.774, 0.770]}), "pb_t50_rs", published.SCRATCH)
    assert {source: found.word for source, found in row.ours[0].verdicts.items()} == {
        DOCUMENT: "reproduced",
        tables.AUTHORS: "reproduced",
    }
    assert row.ours[0].words[0][:2] == ("reproduced", "design document and its authors")


def test_every_recipe_has_a_published_number_and_every_benchmark_a_measure():
    for recipe in recipes.RECIPES:
        assert any(row.method == recipe.method for row in published.ALL)
    assert set(recipes.MEASURES) == set(published.BENCHMARKS)
    assert {key for table in recipes.TABLES for key in table.benchmarks} == set(published.BENCHMARKS)


def test_differences_name_the_key_and_both_values():
    entry: dict[str, Any] = {"fit": {"epochs": 20}, "objective": {"kind": "jepa", "mask": {"blocks": 4}}}
    requires = {"fit.epochs": 300, "objective.mask.blocks": 4, "model.width": 384}
    assert recipes.differences(requires, entry) == [
        "fit.epochs: 20 instead of 300",
        "model.width: none instead of 384",
    ]


def test_svm_presets_stand_beside_the_authors_who_use_them():
    assert [reading.metric for reading in recipes.readings("svm_modelnet40", "Point-M2AE")] == [
        "accuracy_cv",
        "accuracy_m2ae",
    ]
    assert [reading.metric for reading in recipes.readings("svm_modelnet40", OURS)] == ["accuracy_cv"]


def test_the_block_ablation_holds_each_row_against_the_others(params):
    """Two blocks at 85.2, 85.7 and 86.2: ± 1.24 by Student's t, so neither M = 1 nor M = 4 can be left out."""
    found = study(params, two_blocks={"ft_pb": [0.852, 0.857, 0.862]})
    [blocks, ratio, reconstruction] = ablations.ablations(params, found)
    rows = {row.title: row for row in blocks.rows}
    assert [row.claimed["pb_t50_rs"] for row in rows.values()] == [84.6, 85.7, 86.8, 86.3]
    assert not rows["M = 1"].ours
    [ours] = rows["M = 2"].ours["pb_t50_rs"]
    assert ours.verdicts[DOCUMENT].word == "inconclusive"
    assert "M = 4 (86.8)" in ours.verdicts[DOCUMENT].why
    assert "M = 2" not in ours.verdicts[DOCUMENT].why
    assert [row.said for row in ratio.rows] == [claim.said for claim in published.ABLATION_RATIO]
    assert (ratio.run, reconstruction.run) == (0, 0)


def test_published_numbers_keep_their_digits():
    assert [tables.exact(value) for value in (90.0, 93.4, 88.65, 0.2)] == ["90.0", "93.4", "88.65", "0.2"]


def test_every_published_number_of_a_table_is_a_line_of_the_csv(params):
    rows = text.csv_rows(tables.tables(params, study(params)))
    assert all(len(row) == len(text.COLUMNS) for row in rows)
    claims = {(row[1], row[2], row[3], row[4]) for row in rows[1:]}
    assert ("pb_t50_rs", recipes.DOCUMENTED, DOCUMENT, "86.8") in claims
    assert ("pb_t50_rs", "Point-MAE", "README of Point-MAE", "85.18") in claims
    assert {row[15] for row in rows[1:]} == {"not run"}


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("row", "run"),
    [("Point-BERT", "point_bert_document"), ("Point-MAE", "point_mae_document"), ("Point-JEPA", "point_jepa_document")],
)
def test_of_the_runs_of_params_yaml_only_a_peers_own_stands_for_it(row: str, run: str):
    params = project.load(ROOT / "params.yaml")
    [recipe] = [recipe for recipe in recipes.RECIPES if recipe.title == row]
    met = [name for name in params.runs if not recipes.differences(recipe.requires, tables.run_entry(params, name))]
    assert met == [run]


@pytest.mark.parametrize(
    ("run", "change", "said"),
    [
        ("point_bert", {"data": "shapenet55"}, "whole: [False] instead of [True]"),
        ("point_bert", {"objective": {"momentum": 0.99}}, "objective.momentum: 0.99 instead of 0.999"),
        ("dvae", {"objective": {"codes": 512}}, "reads.objective.codes: 512 instead of 8192"),
        ("dvae", {"fit": {"epochs": 30}}, "reads.fit.epochs: 30 instead of 300"),
    ],
)
def test_a_first_stage_that_is_another_takes_its_second_out_of_the_row(
    tmp_path: Path, run: str, change: dict[str, Any], said: str
):
    own = {"extends": str(ROOT / "params.yaml"), "runs": {"own_dvae": {"base": "dvae_document"}}}
    own["runs"]["own_point_bert"] = {"base": "point_bert_document", "objective": {"reads": "own_dvae"}}
    own["runs"][f"own_{run}"] |= {
        key: own["runs"][f"own_{run}"].get(key, {}) | value if isinstance(value, dict) else value
        for key, value in change.items()
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(own))
    [recipe] = [recipe for recipe in recipes.RECIPES if recipe.title == "Point-BERT"]
    entry = tables.run_entry(project.load(path), "own_point_bert")
    assert recipes.differences(recipe.requires, entry) == [said]


@pytest.mark.parametrize(
    "change",
    [
        {"init": "short"},
        {"objective": {"target": "coordinates"}},
        {"objective": {"mask": {"kind": "random"}}},
        {"objective": {"target_from": "last_block"}},
        {"objective": {"target_position": "shared"}},
        {"objective": {"target_tokenizer": "shared"}},
        {"objective": {"average": "mean"}},
        {"objective": {"predict": "per_block"}},
        {"objective": {"ema": {"shape": "linear"}}},
        {"objective": {"predictor": {"position": "own"}}},
        {"objective": {"predictor": {"drop_path": 0.1}}},
        {"objective": {"predictor": {"dropout": 0.1}}},
        {"objective": {"predictor": {"attention_dropout": 0.1}}},
        {"objective": {"predictor": {"mask_token": "zeros"}}},
    ],
    ids=str,
)
def test_a_switch_of_another_method_takes_a_run_out_of_the_documents_row(tmp_path: Path, change: dict[str, Any]):
    data = yaml.safe_load(PARAMS)
    data["runs"]["two_blocks"] = {"base": "document", **change}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(data))
    params = project.load(path)
    entries = tables.run_entries(params, study(params, two_blocks={"ft_pb": [0.8, 0.8, 0.8]}))
    assert recipes.differences(recipes.DOCUMENT_RUN, entries["document"]) == []
    assert recipes.differences(recipes.DOCUMENT_RUN, entries["two_blocks"]) != []
    is_twin = not recipes.differences(recipes.COORDINATES_RUN, entries["two_blocks"])
    assert is_twin == (change == {"objective": {"target": "coordinates"}})

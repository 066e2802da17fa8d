"""The ledger of claims: which pairs of runs a claim is about, what leads to each verdict. Studies made in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jepa3d import project
from jepa3d.params import Params
from jepa3d.report import claims, ledger, recipes
from jepa3d.report.claims import Judged
from jepa3d.report.study import Study
from jepa3d.results.finding import PREDICTED, Details, Finding, share

PARAMS = """
study: all
studies:
  all: {runs: [jepa, exact, one, one_exact, shorter, coordinates, random_init, plain, mae], evals: [clean, linear, near, few], seeds: [0, 1, 2]}
datasets: {toys: {kind: procedural, difficulty: scan}, other: {kind: procedural}, clean: {kind: procedural, difficulty: clean}}
patches: {flat: {points: 64, levels: [{num: 8, size: 8}]}}
models: {small: {width: 24, depth: 1, heads: 2}, plain: {kind: handcrafted}}
runs:
  jepa: {data: toys, patches: flat, model: small, objective: {kind: jepa}, fit: {steps: 100}}
  exact: {base: jepa, objective: {mask: {fill: exact}}}
  one: {base: jepa, objective: {mask: {blocks: 1}}}
  one_exact: {base: exact, objective: {mask: {blocks: 1}}}
  shorter: {base: one, fit: {steps: 50}}
  coordinates: {base: jepa, objective: {target: coordinates}}
  random_init: {base: jepa, objective: {kind: random_init}, fit: {steps: 0}}
  plain: {base: random_init, model: plain}
  mae: {base: jepa, objective: {kind: point_mae}}
evals:
  linear: {dataset: toys, task: {kind: linear_probe}}
  near: {dataset: toys, task: {kind: knn}}
  few: {dataset: toys, task: {kind: few_shot, way: 2}}
  clean: {dataset: clean, task: {kind: linear_probe}}
"""  # noqa: E501
SHAPES = 500


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    path: Path = tmp_path_factory.mktemp("claims") / "params.yaml"
    path.write_text(PARAMS)
    return project.load(path)


def finding(chance: float, seed: int, run: str) -> Finding:
    right = np.random.default_rng([seed, *map(ord, run)]).random(SHAPES) < chance
    return Finding(
        format=2, provenance={}, run=run, seed=seed, eval="e", dataset="toys", task={}, protocol="", notes=(),
        headline="accuracy", metrics={"accuracy": share(float(right.mean()), per_shape=PREDICTED)}, details=Details(),
        predicted=tuple(right.astype(int).tolist()), truth=(1,) * SHAPES, classes=("x", "y"),
        ids=tuple(map(str, range(SHAPES))),
    )  # fmt: skip


def study(params: Params, seeds: int = 5, **chances: dict[str, float]) -> Study:
    """run={evaluation: the chance that a test shape is right}"""
    chosen = params.chosen
    outcomes: dict[str, dict[str, dict[int, Finding]]] = {run: {} for run in chosen.runs}
    for run, of_run in chances.items():
        for name, chance in of_run.items():
            outcomes[run][name] = {seed: finding(chance, seed, run + name) for seed in range(seeds)}
    evals = tuple(name for name in chosen.evals if any(name in of for of in outcomes.values()))
    return Study("all", "", chosen.runs, evals, tuple(range(seeds)), outcomes, {}, {}, None, {})


def judged(params: Params, found: Study, name: str) -> Judged:
    [one] = [one for one in claims.ledger(params, found) if one.claim.name == name]
    return one


@pytest.mark.parametrize(
    ("ours", "word"), [(0.8, "supported"), (0.4, "contradicted"), (0.601, "not decided"), (None, "not run")]
)
def test_each_verdict_can_come_out(params: Params, ours: float | None, word: str):
    of = {} if ours is None else {"jepa": {"linear": ours}}
    one = judged(params, study(params, plain={"linear": 0.6}, **of), "handcrafted")
    assert one.word == word
    assert [(line.evaluation, line.a, line.b) for line in one.lines] == [("linear", "jepa", "plain")] * bool(of)


def test_one_seed_decides_nothing(params: Params):
    for chance in (1.0, 0.0):
        one = judged(params, study(params, 1, jepa={"linear": chance}, plain={"linear": 0.5}), "handcrafted")
        assert one.word == "not decided"
        assert one.lines[0].corrected is None
        assert "one seed, which decides nothing" in one.lines[0].text


def test_at_least_as_good_asks_for_more_than_a_point_less(params: Params):
    """.2 and .6 points below are as good where the test is sharp, 5 below are not, .9 below with noise is open."""
    words = {}
    for behind in (0.0, 0.2):
        found = study(params, 8, jepa={"linear": 0.99 - behind}, mae={"linear": 0.99})
        words[behind] = judged(params, found, "point_mae").word
    assert words == {0.0: "supported", 0.2: "contradicted"}
    noisy = study(params, 3, jepa={"linear": 0.60}, mae={"linear": 0.605})
    one = judged(params, noisy, "point_mae")
    assert one.word == "not decided"
    assert " against -1; 3 seeds" in one.lines[0].text


def test_the_best_evaluation_that_there_is_decides_and_the_others_are_shown(params: Params):
    """k-NN says the contrary of the linear probe, which comes first among what was agreed beforehand."""
    found = study(params, jepa={"near": 0.2, "linear": 0.8}, plain={"near": 0.6, "linear": 0.5})
    one = judged(params, found, "handcrafted")
    assert [(line.evaluation, line.decides) for line in one.lines] == [("linear", True), ("near", False)]
    assert one.word == "supported"
    alone = judged(params, study(params, jepa={"near": 0.2}, plain={"near": 0.6}), "handcrafted")
    assert (alone.word, alone.lines[0].decides) == ("contradicted", True)


def test_pairs_of_an_ablation_differ_in_nothing_else(params: Params):
    names = {name: {"linear": 0.7} for name in params.chosen.runs}
    found = study(params, 2, **names)
    of = {one.claim.name: [(line.a, line.b) for line in one.lines] for one in claims.ledger(params, found)}
    assert of["blocks"] == [("jepa", "one")]  # not `shorter`, which has fewer steps
    assert of["blocks_at_one_ratio"] == [("exact", "one_exact")]
    assert of["representations"] == [("jepa", "coordinates")]
    assert of["pretraining"] == [("jepa", "random_init")]
    assert of["handcrafted"] == [("jepa", "plain")]
    assert of["point_mae"] == [("jepa", "mae")]
    assert of["labels"] == of["ratio_low"] == []


def test_lines_that_disagree_decide_nothing(params: Params):
    [claim] = [claim for claim in claims.CLAIMS if claim.name == "blocks"]
    found = judged(params, study(params, jepa={"linear": 0.8}, one={"linear": 0.5}), "blocks")
    contrary = found.lines[0]._replace(difference=found.lines[0].difference._replace(mean=-30.0))
    assert claims._word(claim, found.lines) == "supported"
    assert claims._word(claim, [*found.lines, contrary]) == "not decided"


def test_more_deciding_lines_ask_for_more(params: Params):
    """Holm over the whole ledger: the same pair gets a larger p where other claims are tested, too."""
    alone = judged(params, study(params, jepa={"linear": 0.70}, plain={"linear": 0.62}), "handcrafted")
    more = {"one": {"linear": 0.7}, "coordinates": {"linear": 0.7}, "mae": {"linear": 0.7}}
    among = judged(params, study(params, jepa={"linear": 0.70}, plain={"linear": 0.62}, **more), "handcrafted")
    assert alone.lines[0].difference == among.lines[0].difference
    assert alone.lines[0].corrected == alone.lines[0].difference.p < among.lines[0].corrected


def test_a_larger_gap_is_a_difference_of_differences(params: Params):
    """30 points ahead on scans and 5 on clean shapes; then the other way round."""
    scans = study(params, jepa={"linear": 0.8, "clean": 0.85}, mae={"linear": 0.5, "clean": 0.8})
    one = judged(params, scans, "larger_gap")
    assert one.word == "supported"
    assert one.lines[0].evaluation == "linear against clean"
    assert one.lines[0].difference.mean == pytest.approx(25, abs=4)
    assert one.lines[0].difference.shapes == 2 * SHAPES
    clean = study(params, jepa={"linear": 0.8, "clean": 0.85}, mae={"linear": 0.8, "clean": 0.5})
    assert judged(params, clean, "larger_gap").word == "contradicted"
    assert judged(params, study(params, jepa={"linear": 0.8}, mae={"linear": 0.5}), "larger_gap").word == "not run"


def test_the_documents_run_is_the_one_that_recipes_know():
    assert claims.has(recipes.required("document"), claims.RUNS["literal"])
    assert set(claims.RUNS["literal"]) <= set(claims.flat(recipes.required("document")))


def test_every_claim_says_what_would_speak_for_and_against_it():
    names = [claim.name for claim in claims.CLAIMS]
    assert len(set(names)) == len(names)
    for claim in claims.CLAIMS:
        assert claim.hypothesis.endswith(".")
        assert claim.supports != claim.contradicts
        assert claim.evidence


def test_the_ledger_is_told_in_sentences_and_rows(params: Params):
    found = claims.ledger(
        params, study(params, jepa={"linear": 0.8}, plain={"linear": 0.5}, random_init={"linear": 0.8})
    )
    said = ledger.headline(found)
    assert said[0] == "Supported: Pretraining without labels beats handcrafted features."
    assert said[1] == "Not decided: Pretraining without labels beats random weights."
    assert said[-1] == f"Not run here: {len(found) - 2} of {len(found)} claims."
    rows = ledger.csv_rows(found)
    assert {len(row) for row in rows} == {len(ledger.COLUMNS)}
    assert {row[0] for row in rows[1:]} == {claim.name for claim in claims.CLAIMS}
    assert len(ledger.ledger_grid(found).rows) == 2
    assert len(ledger.not_run_grid(found).rows) == len(found) - 2

"""Two runs paired by seed and test shape, and what the result table marks: studies made up in memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from jepa3d.report import paired, results
from jepa3d.report.study import Study
from jepa3d.results.finding import PREDICTED, Details, Finding, share

SHAPES = 400


def outcome(right: np.ndarray, seed: int = 0, objects: tuple[str, ...] = (), ids: tuple[str, ...] = ()) -> Finding:
    """One seed: which of the test shapes are right."""
    return Finding(
        format=2, provenance={}, run="r", seed=seed, eval="e", dataset="toys", task={}, protocol="", notes=(),
        headline="accuracy", metrics={"accuracy": share(float(right.mean()), per_shape=PREDICTED)}, details=Details(),
        predicted=tuple(right.astype(int).tolist()), truth=(1,) * len(right), classes=("x", "y"),
        ids=ids or tuple(map(str, range(len(right)))), objects=objects,
    )  # fmt: skip


def seeds(chance: float, count: int = 3, salt: int = 0) -> dict[int, Finding]:
    """Each shape of each seed is right with this chance."""
    drawn = (np.random.default_rng([seed, salt]).random(SHAPES) < chance for seed in range(count))
    return {seed: outcome(right, seed) for seed, right in enumerate(drawn)}


def study(**runs: dict[int, Finding]) -> Study:
    return Study(
        "s", "", tuple(runs), ("e",), (0, 1, 2), {run: {"e": of} for run, of in runs.items()}, {}, {}, None, {}
    )


def test_a_difference_is_paired_by_seed():
    """Both runs swing by .25 from seed to seed, together: their difference is .25 in every one, without any spread."""
    right = np.arange(4)
    a, b = ({seed: outcome(right < n + seed, seed) for seed in range(3)} for n in (2, 1))
    found = paired.difference(a, b, "accuracy")
    assert found.mean == 0.25
    assert (found.seeds, found.shapes) == (3, 4)
    apart = paired.difference({2: a[2], 0: a[0]}, {5: b[1], 2: b[2], 0: b[0]}, "accuracy")
    assert (apart.mean, apart.seeds) == (0.25, 2)


def test_runs_without_a_common_seed_are_not_compared():
    with pytest.raises(ValueError, match="no seed in common"):
        paired.difference({0: outcome(np.ones(4))}, {1: outcome(np.ones(4))}, "accuracy")
    found = paired.pairs(study(a=seeds(0.9), b={7: outcome(np.zeros(SHAPES), 7)}))
    assert found == {"e": []}


def test_other_test_shapes_are_not_paired_shape_by_shape():
    a = {seed: outcome(np.ones(4), seed) for seed in range(2)}
    b = {seed: outcome(np.zeros(4), seed, ids=("p", "q", "r", "s")) for seed in range(2)}
    assert paired.difference(a, b, "accuracy").shapes == 0


def test_objects_of_a_finding_are_drawn_together():
    right, objects = (
        np.repeat(np.random.default_rng(0).random(40) < 0.7, 5),
        tuple(np.repeat(np.arange(40), 5).astype(str)),
    )
    nothing = {seed: outcome(np.zeros(200), seed, objects) for seed in range(2)}
    found = paired.difference({seed: outcome(right, seed, objects) for seed in range(2)}, nothing, "accuracy")
    assert (found.shapes, found.objects) == (200, 40)
    assert found.high - found.low == pytest.approx(2 * 1.96 * (0.7 * 0.3 / 40) ** 0.5, rel=0.2)


def marks(found: Study) -> tuple[bool, list[str], list[str], list[str]]:
    params = SimpleNamespace(evals={"e": SimpleNamespace(dataset="toys", task={"kind": "knn"})}, runs={})
    column = results.result_column(params, found, "e", paired.pairs(found)["e"])  # type: ignore[arg-type]
    return column.decided, column.behind, column.tied, column.unjudged


def test_a_winner_needs_the_test_against_every_run_with_several_seeds():
    assert marks(study(a=seeds(0.9), b=seeds(0.5), c=seeds(0.2, 1))) == (True, ["b"], [], ["c"])


def test_there_is_no_winner_where_the_test_does_not_decide():
    close = study(a=seeds(0.9), b=seeds(0.88, salt=1), c=seeds(0.5))
    assert marks(close) == (False, ["c"], ["b"], [])


def test_there_is_no_winner_among_single_seeds():
    assert marks(study(a=seeds(0.9, 1), b=seeds(0.5, 1))) == (False, [], [], ["b"])


def test_more_comparisons_of_one_table_raise_p():
    two = study(a=seeds(0.7), b=seeds(0.64, salt=1))
    many = two._replace(
        evals=("e", "f"), outcomes={run: {"e": of["e"], "f": of["e"]} for run, of in two.outcomes.items()}
    )
    [alone], [first] = paired.pairs(two)["e"], paired.pairs(many)["e"]
    assert alone.corrected == alone.difference.p
    assert first.corrected == pytest.approx(2 * alone.difference.p)

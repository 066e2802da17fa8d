"""What evaluations say beyond numbers, as pictures: made from findings alone."""

from __future__ import annotations

from jepa3d.report import details
from jepa3d.report.grid import plain
from jepa3d.report.study import Study
from jepa3d.results.finding import ClassScore, Corruption, Curve, Details, Example, Finding, Folds, Look, share


def study(**found: Details) -> Study:
    """One evaluation `e`, run=details; with the metric `score` of .5, and .6 for the run called `best`."""
    outcomes: dict[str, dict[str, dict[int, Finding]]] = {}
    for run, of_run in found.items():
        one = Finding(
            format=2, provenance={}, run=run, seed=0, eval="e", dataset="toys", task={}, protocol="", notes=(),
            headline="score", metrics={"score": share(0.6 if run == "best" else 0.5)},
            details=of_run, predicted=None, truth=(), ids=(), classes=(),
        )  # fmt: skip
        outcomes[run] = {"e": {0: one, 1: one}}
    return Study("s", "", tuple(found), ("e",), (0, 1), outcomes, {}, {}, None, {})


def folds(*scores: float) -> Details:
    return Details(folds=Folds(scores={"score": scores}))


def test_every_fold_of_every_seed_is_a_dot():
    [found] = details.few_shot_folds(study(a=folds(0.4, 0.6), b=folds(0.3, 0.7)))["e"]
    assert found.title == "score"
    assert [row.values for row in found.lines] == [[40.0, 60.0, 40.0, 60.0], [30.0, 70.0, 30.0, 70.0]]
    assert found.lines[0].mean == 50.0


def test_a_robustness_curve_has_a_line_for_each_run_and_names_the_levels():
    jitter = Corruption(kind="jitter", unit="radii", levels=(0, 0.01, 0.02), scores=(0.9, 0.8, 0.5))
    said = Details(corruptions=[jitter])
    [curves] = details.robustness(study(a=said, b=said))["e"]
    assert [(line.label, line.y) for line in curves.lines] == [("a", [90.0, 80.0, 50.0]), ("b", [90.0, 80.0, 50.0])]
    assert curves.about == "Severity 1 to 2: 0.01, 0.02 (radii)."


def test_a_fine_tuning_has_its_held_out_and_its_test_curve():
    looks = [Look(epoch=1, step=9, held_out=0.5, test=0.4), Look(epoch=2, step=18, test=0.6)]
    curve = Curve(metric="score", looks=looks, chosen={"last": 18})
    [curves] = details.tunings(study(a=Details(curve=curve)))["e"]
    held, test = curves.lines[:2]
    assert (list(held.x), list(held.y), held.dashed) == ([1], [50.0], False)
    assert (list(test.x), list(test.y), test.dashed) == ([1, 2], [40.0, 60.0], True)


EXAMPLE = Example(
    id="mug7",
    category="mug",
    iou=0.5,
    parts={3: "cup", 4: "handle"},
    points=[(0, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)],
    truth=[3, 3, 4, -1],
    predicted=[3, 4, 4, 3],
)


def test_wrong_points_are_red_and_unlabelled_ones_are_no_mistake():
    found = details.segmented(EXAMPLE)
    truth, predicted, wrong = found.clouds
    assert found.title == "mug, IoU 50 %"
    assert truth.colours[0] == truth.colours[1] != truth.colours[2] != truth.colours[3]
    assert predicted.colours[1] == predicted.colours[2] == truth.colours[2] == found.legend["handle"]
    assert wrong.colours == (details.RIGHT, details.WRONG, details.RIGHT, details.RIGHT)
    assert wrong.title == "wrong: 1 of 4"
    assert truth.points[:, 0].tolist() == [-1, 1, 0, -1]  # centred, in the unit sphere


def test_the_best_runs_shapes_are_shown_and_every_runs_categories():
    said = Details(examples=[EXAMPLE], per_class={"mug": ClassScore(miou=0.5, shapes=7, parts={})})
    [found] = details.segmentations(study(a=said, best=said))
    assert (found.run, found.seed, len(found.shapes)) == ("best", 0, 1)
    assert [[plain(one) for one in row.cells] for row in found.grid.rows] == [["mug", "7", "50.0", "50.0"]]


def test_a_study_without_details_has_no_pictures_of_them():
    bare = study(a=Details())
    assert details.few_shot_folds(bare) == {}
    assert details.robustness(bare) == details.tunings(bare) == {}
    assert details.segmentations(bare) == []

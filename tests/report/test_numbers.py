"""Intervals of the report's numbers, worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from jepa3d.report import numbers, paired
from jepa3d.report.study import Study
from jepa3d.results.finding import PREDICTED, Details, Finding, Folds, Metric, PerShape, share


def outcome(metrics: dict[str, Metric], right: list[int] | None = None, **more: Any) -> Finding:
    """The first metric is the headline; `right`: which of the test shapes (four without it) are right."""
    shapes = len(right) if right is not None else 4
    fields = {"details": Details(), "ids": tuple(map(str, range(shapes)))} | more
    return Finding(
        format=2, provenance={}, run="r", seed=0, eval="e", dataset="toys", task={}, protocol="", notes=(),
        headline=next(iter(metrics)), metrics=metrics, predicted=None if right is None else tuple(right),
        truth=(1,) * shapes, classes=("x", "y"), **fields,
    )  # fmt: skip


def test_predictions_count_only_for_the_metric_that_is_their_mean():
    """Another one with the same value is something else."""
    one = outcome({"accuracy": share(0.75, per_shape=PREDICTED), "balanced_accuracy": share(0.75)}, [1, 1, 1, 0])
    assert numbers.by_shape([one], "accuracy").tolist() == [1, 1, 1, 0]
    assert numbers.by_shape([one], "balanced_accuracy").tolist() == []


def test_ious_of_the_shapes_take_the_place_of_right_and_wrong():
    per_shape = PerShape(ids=("p", "q"), classes=("x", "x"), scores={"iou": (0.5, 0.7)})
    metrics = {"instance_miou": share(0.6, per_shape="iou"), "class_miou": share(0.6)}
    one = outcome(metrics, details=Details(per_shape=per_shape))
    assert numbers.by_shape([one], "instance_miou").tolist() == [0.5, 0.7]
    assert numbers.by_shape([one], "class_miou").tolist() == []
    assert one.scored_ids("instance_miou") == ("p", "q")


def test_seeds_on_other_shapes_have_no_common_shapes():
    a = outcome({"accuracy": share(0.5, per_shape=PREDICTED)}, [1, 0])
    b = outcome({"accuracy": share(0.5, per_shape=PREDICTED)}, [1, 0], ids=("8", "9"))
    assert numbers.shape_scores([a, b], "accuracy") is None


def test_folds_count_with_a_single_seed_only():
    one = outcome({"linear": share(0.5)}, details=Details(folds=Folds(scores={"linear": (0.4, 0.6)})))
    assert numbers.by_shape([one], "linear").tolist() == [0.4, 0.6]
    assert numbers.by_shape([one, one], "linear").tolist() == []


def test_an_accuracy_without_predictions_has_the_binomials_interval():
    """.9 of 4 test shapes: ± 1.96 * sqrt(.09 / 4) = ± .294, and no share is above 1."""
    found = numbers.interval([outcome({"vote": share(0.9, shapes=4)})], "vote")
    assert found.low == pytest.approx(0.606)
    assert found.high == 1.0


def test_a_subset_of_the_test_shapes_is_less_sure():
    """.5 of 2 of the 4 test shapes: ± 1.96 * sqrt(.25 / 2)."""
    found = numbers.interval([outcome({"corrupted": share(0.5, shapes=2)})], "corrupted")
    assert (found.low, found.high) == (0.0, 1.0)
    assert numbers.interval([outcome({"corrupted": share(0.5, shapes=4)})], "corrupted").low == pytest.approx(0.01)


def test_shares_are_printed_in_percent_and_other_units_are_not():
    assert (numbers.shown(0.8421, "share"), numbers.unit_text("share")) == ("84.2", "%")
    assert (numbers.shown(0.8421, "log10"), numbers.unit_text("log10")) == ("0.8421", "log10")


def test_the_lowest_error_is_the_best():
    """Errors of .1, .3 and .1 with two equal seeds each: the first is the best, the third is tied with it."""
    errors = {"a": 0.1, "b": 0.3, "c": 0.1}
    each = {run: outcome({"error": Metric(value, "radii", False, 0.5)}) for run, value in errors.items()}
    outcomes = {run: {"e": {0: one, 1: one}} for run, one in each.items()}
    study = Study("s", "", tuple(errors), ("e",), (0, 1), outcomes, {}, {}, None, {})
    assert {run: cell.best for run, cell in numbers.column(study, "e").items()} == {"a": True, "b": False, "c": False}
    [to_b, to_c] = paired.pairs(study)["e"]
    assert (to_b.told, to_c.told) == (True, False)
    assert to_b.difference.mean == pytest.approx(-0.2)
    assert numbers.chance(study.of("a", "e")) == 0.5
    assert numbers.interval(study.of("b", "e"), "error").high == pytest.approx(0.3)  # no share, no binomial


def test_a_single_seed_is_neither_told_apart_nor_called_equal():
    a, b = outcome({"accuracy": share(0.9)}), outcome({"accuracy": share(0.2)})
    outcomes = {"a": {"e": {0: a, 1: a}}, "b": {"e": {0: b}}, "c": {"e": {0: b, 1: b}}}
    found = paired.pairs(Study("s", "", ("a", "b", "c"), ("e",), (0, 1), outcomes, {}, {}, None, {}))
    assert [(pair.b, pair.corrected is None, pair.told) for pair in found["e"]] == [
        ("b", True, False),
        ("c", False, True),
    ]

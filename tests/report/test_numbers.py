"""Intervals of the report's numbers, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from jepa3d.report import numbers
from jepa3d.report.study import Outcome, Study


def outcome(metrics: dict[str, float], right: list[int] | None = None, **details: object) -> Outcome:
    shapes = len(right) if right is not None else 4
    predicted = None if right is None else np.array(right)
    ids = tuple(map(str, range(shapes)))
    return Outcome(metrics, next(iter(metrics)), "", (), predicted, np.ones(shapes, int), ids, ("x",), {}, details)


def test_predictions_count_only_for_the_metric_that_they_give():
    one = outcome({"accuracy": 0.75, "balanced_accuracy": 0.5}, [1, 1, 1, 0])
    assert numbers.by_shape([one], "accuracy").tolist() == [1, 1, 1, 0]
    assert numbers.by_shape([one], "balanced_accuracy").tolist() == []


def test_ious_of_the_shapes_take_the_place_of_right_and_wrong():
    per_shape = {"id": ["p", "q"], "iou": [0.5, 0.7]}
    one = outcome({"instance_miou": 0.6, "class_miou": 0.55}, per_shape=per_shape)
    assert numbers.by_shape([one], "instance_miou").tolist() == [0.5, 0.7]
    assert numbers.by_shape([one], "class_miou").tolist() == []
    assert numbers.shape_ids(one) == ("p", "q")


def test_seeds_on_other_shapes_have_no_common_shapes():
    a = outcome({"accuracy": 0.5}, [1, 0])
    b = outcome({"accuracy": 0.5}, [1, 0])._replace(ids=("8", "9"))
    assert numbers.shape_scores([a, b], "accuracy") is None


def test_folds_count_with_a_single_seed_only():
    one = outcome({"linear": 0.5}, folds={"linear": [0.4, 0.6]})
    assert numbers.by_shape([one], "linear").tolist() == [0.4, 0.6]
    assert numbers.by_shape([one, one], "linear").tolist() == []


@pytest.mark.parametrize("folds", [[0.4, 0.6], [{"accuracy": 0.4}, {"accuracy": 0.6}], {"accuracy": [0.4, 0.6]}])
def test_folds_are_read_however_a_task_writes_them(folds):
    assert numbers.folds(outcome({"accuracy": 0.5}, folds=folds)) == {"accuracy": [0.4, 0.6]}


def test_an_accuracy_without_predictions_has_the_binomials_interval():
    """.9 of 4 test shapes: ± 1.96 * sqrt(.09 / 4) = ± .294, and no share is above 1."""
    found = numbers.interval([outcome({"accuracy_vote": 0.9})], "accuracy_vote")
    assert found.low == pytest.approx(0.606)
    assert found.high == 1.0


def test_a_subset_of_the_test_shapes_is_less_sure():
    """.5 of 2 of the 4 test shapes: ± 1.96 * sqrt(.25 / 2)."""
    found = numbers.interval([outcome({"accuracy_corrupted": 0.5})._replace(subset=2)], "accuracy_corrupted")
    assert (found.low, found.high) == (0.0, 1.0)
    assert numbers.interval([outcome({"accuracy_corrupted": 0.5})], "accuracy_corrupted").low == pytest.approx(0.01)


def test_a_paired_interval_forgets_what_both_share():
    """Both runs swing by .2 from seed to seed, together: their difference is .1 every time, without any spread."""
    a = [outcome({"accuracy": value}) for value in (0.5, 0.7, 0.9)]
    b = [outcome({"accuracy": value}) for value in (0.4, 0.6, 0.8)]
    found = numbers.paired_interval(a, b, "accuracy")
    assert [found.low, found.mean, found.high] == pytest.approx([0.1, 0.1, 0.1])


def test_severities_are_shares_and_epochs_are_not():
    assert numbers.is_share("jitter_3", [0.4])
    assert not numbers.is_share("epoch", [1.0])
    assert not numbers.is_share("chosen_c", [0.5])


def test_a_single_seed_is_neither_told_apart_nor_called_equal():
    a, b = outcome({"accuracy": 0.9}), outcome({"accuracy": 0.2})
    outcomes = {"a": {"e": {0: a, 1: a}}, "b": {"e": {0: b}}, "c": {"e": {0: b, 1: b}}}
    cells = numbers.column(Study("s", "", ("a", "b", "c"), ("e",), (0, 1), outcomes, {}, {}, None, {}), "e")
    assert {run: (cell.best, cell.tied, cell.judged) for run, cell in cells.items()} == {
        "a": (True, False, True),
        "b": (False, False, False),
        "c": (False, False, True),
    }

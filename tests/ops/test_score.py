"""Scores, worked by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from jepa3d.ops import score

TRUTH = np.array([0, 0, 0, 1, 2, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 2])


def test_accuracy_counts_the_shapes():
    assert score.accuracy(TRUTH, PREDICTED) == pytest.approx(4 / 6)


def test_mean_class_accuracy_counts_every_class_alike():
    assert score.mean_class_accuracy(TRUTH, PREDICTED) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)


def test_mean_class_accuracy_passes_over_classes_that_do_not_occur():
    assert score.mean_class_accuracy(np.array([5, 5]), np.array([5, 1])) == 0.5


def test_confusion_has_the_truth_in_rows():
    assert score.confusion(TRUTH, PREDICTED, 3).tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_majority_is_chosen_on_train_and_scored_on_test():
    assert score.majority(np.array([1, 1, 0]), np.array([0, 0, 1, 0])) == 0.25


def test_majority_of_equally_frequent_classes_is_the_lowest_label():
    assert score.majority(np.array([2, 1, 1, 2]), np.array([1, 2, 2])) == pytest.approx(1 / 3)


def test_the_standard_deviation_is_that_of_a_sample():
    assert score.mean_std([1.0, 2.0, 3.0]) == (2.0, 1.0)  # n - 1; the population's would be .816


def test_one_value_has_no_spread():
    assert score.mean_std([0.7]) == (0.7, 0.0)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_scores_equal_scikit_learn(seed: int, n: int):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 5, n)
    predicted = random.choice(truth, n)  # only classes that occur, for balanced_accuracy_score warns of others
    assert score.accuracy(truth, predicted) == pytest.approx(metrics.accuracy_score(truth, predicted))
    expected = metrics.confusion_matrix(truth, predicted, labels=range(5))
    assert (score.confusion(truth, predicted, 5) == expected).all()
    recall = metrics.recall_score(truth, predicted, average="macro", labels=np.unique(truth))
    assert score.mean_class_accuracy(truth, predicted) == pytest.approx(recall)


def test_only_the_parts_of_the_category_compete():
    logits = np.array([[9.0, 1.0, 2.0, 0.0], [9.0, 4.0, 2.0, 8.0]])
    assert score.restricted_argmax(logits, (1, 2)).tolist() == [2, 1]


def test_shape_iou_by_hand():
    truth, predicted = np.array([4, 4, 4, 5, 5]), np.array([4, 4, 5, 5, 5])
    assert score.shape_iou(truth, predicted, (4, 5)) == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_a_part_neither_there_nor_predicted_counts_one():
    truth, predicted = np.array([4, 4]), np.array([4, 4])
    assert score.shape_iou(truth, predicted, (4, 5, 6)) == 1.0


def test_a_part_predicted_where_it_is_not_counts_zero():
    truth, predicted = np.array([4, 4]), np.array([4, 5])
    assert score.shape_iou(truth, predicted, (4, 5)) == pytest.approx((1 / 2 + 0) / 2)


def test_instance_and_class_miou_weigh_shapes_and_categories():
    instance, by_class = score.part_miou(np.array([1.0, 1.0, 1.0, 0.2]), np.array([0, 0, 0, 7]))
    assert instance == pytest.approx(0.8)
    assert by_class == pytest.approx(0.6)


@given(arrays(np.int64, 12, elements=st.integers(0, 3)), arrays(np.int64, 12, elements=st.integers(0, 3)))
def test_shape_iou_equals_scikit_learns_jaccard(truth: np.ndarray, predicted: np.ndarray):
    expected = metrics.jaccard_score(truth, predicted, labels=range(4), average=None, zero_division=1.0)
    assert score.shape_iou(truth, predicted, range(4)) == pytest.approx(expected.mean())


PARTS = ((0, 1), (2, 3, 4))


def test_shape_ious_of_two_categories_by_hand():
    truth = np.array([[0, 0, 1, 1], [2, 2, 3, 3]])
    predicted = np.array([[0, 1, 1, 1], [2, 2, 3, 4]])
    first = (1 / 2 + 2 / 3) / 2  # part 0: 1 of 2 points; part 1: 2 of 3
    second = (1 + 1 / 2 + 0) / 3  # part 4 is not there, and is predicted
    found = score.shape_ious(truth, predicted, np.array([0, 1]), PARTS)
    assert found.tolist() == pytest.approx([first, second])


def test_points_without_a_label_are_passed_over():
    truth, predicted = np.array([[0, -1, 1, -1]]), np.array([[0, 1, 1, 0]])
    assert score.shape_ious(truth, predicted, np.array([0]), PARTS).tolist() == [1.0]
    assert score.part_ious(truth, predicted, (0, 1)).tolist() == [1.0, 1.0]


def test_part_ious_are_means_over_the_shapes():
    truth, predicted = np.array([[0, 0], [0, 1]]), np.array([[0, 1], [0, 1]])
    assert score.part_ious(truth, predicted, (0, 1)).tolist() == pytest.approx([(1 / 2 + 1) / 2, (0 + 1) / 2])


@given(st.integers(0, 2**32 - 1))
def test_the_mean_of_the_parts_is_the_mean_of_the_shapes(seed: int):
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(2, 5, (2, 4, 6))
    ious = score.shape_ious(truth, predicted, np.ones(4, np.int64), PARTS)
    assert score.part_ious(truth, predicted, PARTS[1]).mean() == pytest.approx(ious.mean())


def test_the_majority_part_is_that_of_the_category():
    part = np.array([[0, 1, 1], [2, 2, 4], [4, 4, 4], [1, 0, 0]])
    assert score.majority_parts(part, np.array([0, 1, 1, 0]), PARTS).tolist() == [0, 4]  # 3 against 3: the first
    assert score.majority_parts(part[:1], np.array([0]), PARTS).tolist() == [1, -1]


def test_parts_belong_to_the_category_they_are_named_after_and_to_those_that_have_them():
    names = ("chair/leg", "table/leg", "table lamp/leg", "background", "chair/arm")
    part = np.array([[0, 3], [1, 1], [2, -1]])
    found = score.parts_of_categories(("chair", "table", "table lamp"), names, np.array([0, 1, 2]), part)
    assert found == ((0, 3, 4), (1,), (2,))  # no shape here has arms, yet they are parts of a chair


def test_parts_of_shapenetparts_names_and_of_mere_numbers():
    assert score.parts_of_categories(("Cap", "Car"), ("Cap 0", "Cap 1", "Car 0"), np.array([0]), np.array([[0]])) == (
        (0, 1),
        (2,),
    )
    numbered = score.parts_of_categories(("a", "b"), ("0", "1", "2"), np.array([0, 1]), np.array([[0, 1], [1, 2]]))
    assert numbered == ((0, 1), (1, 2))

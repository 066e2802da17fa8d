"""Stored few-shot folds: the ids name them, and what does not fit the task is a Problem. Drawn: tasks/test_few_shot."""

from __future__ import annotations

import numpy as np
import pytest

from jepa3d.ops.episodes import Episodes, folds
from jepa3d.problem import Problem

# two folds of 2 ways x 2 shots x 3 queries; fold 0 has classes 4 and 7, fold 1 classes 7 and 9
CLASSES = ((4, 7), (7, 9))
TRAIN = np.array([label for own in CLASSES for label in own for _ in range(2)])
TEST = np.array([label for own in CLASSES for label in own for _ in range(3)])
TRAIN_IDS = np.array([f"2way_2shot/{fold}/train/{n:04d}" for fold in range(2) for n in range(4)])
TEST_IDS = np.array([f"2way_2shot/{fold}/test/{n:04d}" for fold in range(2) for n in range(6)])
TASK = Episodes(way=2, shot=2, folds=2)


def test_stored_folds_are_taken_as_they_are_whatever_the_seed():
    for seed in (0, 1):
        one, two = folds(TRAIN, TEST, TASK, seed, train_ids=TRAIN_IDS, test_ids=TEST_IDS)
        assert (one.support.tolist(), one.query.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5])
        assert (two.support.tolist(), two.query.tolist()) == ([4, 5, 6, 7], [6, 7, 8, 9, 10, 11])


def test_stored_folds_are_found_when_their_shapes_are_mixed():
    order = np.random.default_rng(0).permutation(8)
    one, _ = folds(TRAIN[order], TEST, TASK, 0, train_ids=TRAIN_IDS[order], test_ids=TEST_IDS)
    assert sorted(order[one.support].tolist()) == [0, 1, 2, 3]


def test_ids_that_name_no_fold_leave_the_drawing_as_it_is():
    train, test = np.arange(20) % 4, np.arange(40) % 4
    ids = np.array([f"shape-{n}" for n in range(40)])
    drawn = folds(train, test, TASK, 3)
    for one, two in zip(folds(train, test, TASK, 3, train_ids=ids[:20], test_ids=ids), drawn, strict=True):
        assert one.support.tolist() == two.support.tolist()
        assert one.query.tolist() == two.query.tolist()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"folds": 10}, "10 folds, but the data set stores 2"),
        ({"way": 5}, "fold 0 is 2-way 2-shot, the task 5-way 2-shot"),
        ({"shot": 1}, "fold 0 is 2-way 2-shot, the task 2-way 1-shot"),
    ],
)
def test_another_setting_than_the_stored_one_is_a_problem(changes: dict[str, int], says: str):
    with pytest.raises(Problem, match=says):
        folds(TRAIN, TEST, TASK.model_copy(update=changes), 0, train_ids=TRAIN_IDS, test_ids=TEST_IDS)


def test_a_shot_that_was_damaged_is_a_problem():
    kept = np.arange(1, 8)
    with pytest.raises(Problem, match="fold 0 is 2-way 1/2-shot"):
        folds(TRAIN[kept], TEST, TASK, 0, train_ids=TRAIN_IDS[kept], test_ids=TEST_IDS)


def test_queries_of_a_class_without_shots_are_a_problem():
    wrong = TEST.copy()
    wrong[0] = 9
    with pytest.raises(Problem, match="fold 0 has queries of class 9"):
        folds(TRAIN, wrong, TASK, 0, train_ids=TRAIN_IDS, test_ids=TEST_IDS)

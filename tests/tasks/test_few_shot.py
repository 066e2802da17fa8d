"""Few-shot: the folds depend on labels and seed alone, and the numbers are mean and sample deviation over them."""

from __future__ import annotations

import numpy as np
import pytest

from jepa3d.ops.episodes import folds
from jepa3d.problem import Problem
from jepa3d.tasks import Features
from jepa3d.tasks.few_shot import Config, evaluate

TRAIN, TEST = np.arange(80) % 8, np.arange(200) % 8


def features(seed: int = 0, spread: float = 1.0) -> Features:
    random = np.random.default_rng(seed)
    means = random.normal(size=(8, 6))

    def draw(y: np.ndarray) -> np.ndarray:
        return (means[y] + spread * random.normal(size=(len(y), 6))).astype(np.float32)

    return Features(draw(TRAIN), TRAIN, draw(TEST), TEST, tuple("abcdefgh"))


def test_a_fold_has_way_times_shot_supports_and_its_queries_are_of_the_same_classes():
    for fold in folds(TRAIN, TEST, Config(way=5, shot=4), seed=0):
        assert np.unique(TRAIN[fold.support], return_counts=True)[1].tolist() == [4] * 5
        assert np.unique(TEST[fold.query], return_counts=True)[1].tolist() == [20] * 5
        assert set(TRAIN[fold.support]) == set(TEST[fold.query])
        assert len(set(fold.support)) == 20
        assert len(set(fold.query)) == 100


def test_two_runs_with_one_seed_get_the_same_folds(monkeypatch: pytest.MonkeyPatch):
    drawn = []

    def spy(*arguments):
        drawn.append(folds(*arguments))
        return drawn[-1]

    monkeypatch.setattr("jepa3d.ops.episodes.folds", spy)
    for run in (1, 2):
        evaluate(features(run), Config(folds=3), seed=7)
    for one, two in zip(*drawn, strict=True):
        assert one.support.tolist() == two.support.tolist()
        assert one.query.tolist() == two.query.tolist()


def test_folds_and_seeds_differ():
    one, two = folds(TRAIN, TEST, Config(folds=2), seed=0)
    assert one.support.tolist() != two.support.tolist()
    assert folds(TRAIN, TEST, Config(folds=1), seed=1)[0].support.tolist() != one.support.tolist()


def test_more_folds_leave_the_first_ones_as_they_were():
    few, many = folds(TRAIN, TEST, Config(folds=2), seed=0), folds(TRAIN, TEST, Config(folds=4), seed=0)
    assert [fold.query.tolist() for fold in few] == [fold.query.tolist() for fold in many[:2]]


def test_a_class_with_fewer_test_shapes_is_queried_with_those_and_it_is_said():
    given = features()
    fewer = given._replace(x_test=given.x_test[:56], y_test=TEST[:56])  # 7 of each class
    result = evaluate(fewer, Config(), seed=0)
    assert result.values["queries"] == 7.0
    assert result.notes == ("7.0 queries a class on average: some have fewer than 20 test shapes",)
    assert evaluate(given, Config(), seed=0).notes == ()


def test_the_spread_is_the_sample_standard_deviation_over_the_folds():
    given, seed = features(spread=2.0), 3
    metrics = evaluate(given, Config(folds=4, shot=3), seed).values
    mean, deviation = given.x_train.mean(axis=0), given.x_train.std(axis=0)
    found = []
    for fold in folds(TRAIN, TEST, Config(folds=4, shot=3), seed):
        support = (given.x_train[fold.support] - mean) / deviation
        query = (given.x_test[fold.query] - mean) / deviation
        cosine = (query @ support.T) / np.linalg.norm(support, axis=1)  # the query's own norm changes no order
        found.append(np.mean(TRAIN[fold.support][cosine.argmax(axis=1)] == TEST[fold.query]))
    assert metrics["knn"] == pytest.approx(np.mean(found))
    assert metrics["knn_std"] == pytest.approx(np.std(found, ddof=1))


def test_the_accuracy_of_every_fold_is_told():
    result = evaluate(features(spread=2.0), Config(folds=3), seed=0)
    for name in ("linear", "knn"):
        assert len(result.details.folds.scores[name]) == 3
        assert np.mean(result.details.folds.scores[name]) == pytest.approx(result.values[name])


def test_linear_is_the_headline():
    assert list(evaluate(features(), Config(), seed=0).values)[:4] == ["linear", "linear_std", "knn", "knn_std"]


def test_more_ways_than_classes_are_a_problem():
    with pytest.raises(Problem, match="10-way, but 8 classes"):
        evaluate(features(), Config(way=10), seed=0)


def test_a_class_with_fewer_shapes_than_shots_is_a_problem():
    with pytest.raises(Problem, match="20-shot, but class 'a' has 10 train shapes"):
        evaluate(features(), Config(shot=20), seed=0)


def test_a_class_that_cannot_be_queried_is_a_problem():
    given = features()
    kept = given.y_test != 2
    with pytest.raises(Problem, match="class 'c' has no test shape"):
        evaluate(given._replace(x_test=given.x_test[kept], y_test=given.y_test[kept]), Config(), seed=0)

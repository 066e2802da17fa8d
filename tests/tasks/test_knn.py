"""k-NN by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from jepa3d import tasks
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem
from jepa3d.tasks import Features
from jepa3d.tasks.knn import Config, evaluate, neighbours, vote

LINE = Features(
    np.array([[0.0], [1.0], [2.0], [10.0], [11.0]], np.float32),
    np.array([0, 1, 1, 0, 0]),
    np.array([[0.4], [10.4]], np.float32),
    np.array([0, 0]),
    ("near", "far"),
)
PLAIN = {"metric": "euclidean", "standardise": False, "temperature": None}


def test_neighbours_come_nearest_first():
    assert neighbours(LINE.x_train, LINE.x_test, 3, "euclidean")[1].tolist() == [[0, 1, 2], [3, 4, 2]]


def test_each_k_has_its_accuracy_and_the_first_is_the_headline():
    metrics = evaluate(LINE, Config(k=(3, 1), **PLAIN), seed=0).values
    assert metrics["accuracy_k1"] == 1.0  # 0.4 is nearest to 0, 10.4 to 10
    assert metrics["accuracy_k3"] == 0.5  # 0.4: near, far, far
    assert metrics["accuracy"] == metrics["accuracy_k3"]


def test_of_equally_many_votes_the_nearest_wins():
    assert vote(np.array([[2, 1, 1, 2], [0, 3, 3, 1]]), np.ones((2, 4))).tolist() == [2, 3]


def test_weighted_votes_let_a_near_neighbour_outweigh_two_far_ones():
    assert vote(np.array([[2, 1, 1]]), np.array([[1.0, 0.4, 0.4]])).tolist() == [2]
    assert vote(np.array([[2, 1, 1]]), np.array([[1.0, 0.6, 0.6]])).tolist() == [1]


def test_the_weight_of_a_vote_is_the_exponential_of_the_cosine():
    x_train = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]], np.float32)  # cosines 1, .6, .6 with the test shape
    given = Features(x_train, np.array([0, 1, 1]), np.array([[2.0, 0.0]], np.float32), np.array([0]), ("a", "b"))
    # class 0 wins when e^(1/T) > 2 e^(.6/T): T < .4 / ln 2 = .577
    for temperature, winner in ((0.5, 0), (0.65, 1)):
        config = Config(k=(3,), standardise=False, temperature=temperature)
        assert evaluate(given, config, seed=0).predicted.tolist() == [winner]


def test_a_sharp_vote_is_that_of_the_nearest():
    random = np.random.default_rng(0)
    given = Features(random.normal(size=(40, 5)), np.arange(40) % 4, random.normal(size=(30, 5)), np.arange(30) % 4, ())
    sharp = evaluate(given, Config(k=(20, 1), temperature=1e-4), seed=0)
    assert sharp.values["accuracy_k20"] == sharp.values["accuracy_k1"]


def test_the_cosine_does_not_see_lengths():
    x_train = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    given = Features(
        x_train, np.array([0, 1]), np.array([[9.0, 1.0], [0.01, 0.1]], np.float32), np.array([0, 1]), ("a", "b")
    )
    assert evaluate(given, Config(k=(1,), standardise=False), seed=0).values["accuracy"] == 1.0


def test_standardising_keeps_a_large_feature_from_drowning_a_small_one():
    x_train = np.array([[100.0, 0.0], [-100.0, 0.1], [100.0, 1.0], [-100.0, 1.1]], np.float32)
    given = Features(x_train, np.array([0, 0, 1, 1]), np.array([[60.0, 0.45]], np.float32), np.array([0]), ("a", "b"))
    near = given._replace(x_test=np.array([[30.0, 0.1]], np.float32), x_train=x_train * [1, 100])
    options = {"k": (1,), "metric": "euclidean", "temperature": None}
    direct = KNeighborsClassifier(1).fit(near.x_train, near.y_train).predict(near.x_test)
    assert evaluate(near, Config(standardise=False, **options), 0).predicted.tolist() == direct.tolist()
    assert evaluate(given, Config(standardise=True, **options), 0).predicted.tolist() == [0]


def test_one_neighbour_equals_scikit_learn():
    random = np.random.default_rng(1)
    given = Features(random.normal(size=(50, 4)), np.arange(50) % 5, random.normal(size=(20, 4)), np.arange(20) % 5, ())
    direct = KNeighborsClassifier(1).fit(given.x_train, given.y_train).predict(given.x_test)
    assert evaluate(given, Config(k=(1,), **PLAIN), 0).predicted.tolist() == direct.tolist()


def test_more_neighbours_than_shapes_are_a_problem():
    with pytest.raises(Problem, match="k = 20 neighbours, but 5 train shapes"):
        evaluate(LINE, Config(), seed=0)


def test_a_temperature_asks_for_the_cosine():
    with pytest.raises(Problem, match="temperature"):
        plugin_config(tasks, {"kind": "knn", "metric": "euclidean"}, "entry", "params.yaml")

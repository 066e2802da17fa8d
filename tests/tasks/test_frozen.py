"""What every evaluation of frozen features owes: laws and refusals that hold for all of them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from jepa3d import plugins, tasks
from jepa3d.problem import Problem
from jepa3d.tasks import Features
from jepa3d.tasks._shared.given import check
from jepa3d.tasks._shared.splits import holdout, stratified_folds

KINDS = ("linear_probe", "svm", "knn", "few_shot")


def blobs(classes: int = 4, train: int = 60, test: int = 40, spread: float = 0.5, seed: int = 0) -> Features:
    """Gaussian classes in 8 dimensions, equally many shapes of each."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(classes, 8))
    y_train, y_test = np.arange(train) % classes, np.arange(test) % classes

    def draw(y: np.ndarray) -> np.ndarray:
        return (means[y] + spread * random.normal(size=(len(y), 8))).astype(np.float32)

    return Features(draw(y_train), y_train, draw(y_test), y_test, tuple("abcdefgh"[:classes]))


def settings_of(kind: str):
    smaller = {"few_shot": {"way": 3, "shot": 5, "folds": 4}}
    return plugins.find(tasks, kind).Config(**smaller.get(kind, {}))


def run(kind: str, given: Features, seed: int = 0):
    return plugins.find(tasks, kind).evaluate(given, settings_of(kind), seed)


@pytest.mark.parametrize("kind", KINDS)
def test_separate_classes_are_told_apart(kind: str):
    metrics = run(kind, blobs(spread=0.1)).values
    assert next(iter(metrics.values())) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_labels_give_chance(kind: str):
    random, scores = np.random.default_rng(3), []
    for seed in range(3):
        given = blobs(seed=seed, train=120, test=400)
        shuffled = given._replace(y_train=random.permutation(given.y_train), y_test=random.permutation(given.y_test))
        scores.append(next(iter(run(kind, shuffled).values.values())))
    chance = 1 / 3 if kind == "few_shot" else 1 / 4
    assert np.mean(scores) == pytest.approx(chance, abs=0.07)


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_without_spread_on_train_decides_nothing(kind: str):
    """It varies by 2e-8 on the train shapes and is elsewhere on the test shapes, as a largest radius after noise."""
    given, random = blobs(), np.random.default_rng(4)
    still = (1 + 2e-8 * random.normal(size=(len(given.y_train), 1))).astype(np.float32)
    moved = random.uniform(1.0, 1.3, (len(given.y_test), 1)).astype(np.float32)
    more = given._replace(x_train=np.hstack([given.x_train, still]), x_test=np.hstack([given.x_test, moved]))
    plain, with_it = run(kind, given), run(kind, more)
    assert still.std() > 0
    assert next(iter(with_it.values.values())) == next(iter(plain.values.values()))
    np.testing.assert_array_equal(with_it.predicted, plain.predicted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_result(kind: str):
    one, two = run(kind, blobs(), 5), run(kind, blobs(), 5)
    assert one.values == two.values
    assert np.array_equal(one.predicted, two.predicted)


@pytest.mark.parametrize("kind", ["linear_probe", "svm", "knn"])
def test_nothing_is_chosen_on_the_test_split(kind: str):
    given = blobs(spread=1.5)
    lied_to = given._replace(y_test=np.random.default_rng(0).permutation(given.y_test))
    one, two = run(kind, given), run(kind, lied_to)
    assert one.predicted.tolist() == two.predicted.tolist()
    assert one.values.get("chosen_c") == two.values.get("chosen_c")
    assert one.values["accuracy"] != two.values["accuracy"]


@pytest.mark.parametrize("kind", ["linear_probe", "svm", "knn"])
def test_a_test_shape_does_not_change_the_prediction_of_another(kind: str):
    given = blobs(spread=1.5)
    half = given._replace(x_test=given.x_test[:20], y_test=given.y_test[:20])
    assert run(kind, half).predicted.tolist() == run(kind, given).predicted[:20].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_protocol_is_one_line(kind: str):
    line = plugins.find(tasks, kind).protocol(settings_of(kind))
    assert len(line) > 40
    assert "\n" not in line


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_are_finite_numbers(kind: str):
    assert all(type(value) is float and np.isfinite(value) for value in run(kind, blobs()).values.values())


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_without_labels_are_a_problem(kind: str):
    given = blobs()
    labels = given.y_train.copy()
    labels[3:5] = -1
    with pytest.raises(Problem, match="2 of 60 train shapes have no label"):
        run(kind, given._replace(y_train=labels))


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_class_is_a_problem(kind: str):
    with pytest.raises(Problem, match="a single class"):
        run(kind, blobs()._replace(y_train=np.zeros(60, np.int64)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_features_that_are_not_finite_are_named(split: str):
    given = blobs()
    getattr(given, f"x_{split}")[7, 2] = np.nan
    with pytest.raises(Problem) as caught:
        check(given._replace(source="results/features/jepa/seed0/toys.h5"))
    assert "results/features/jepa/seed0/toys.h5: the features of 1 of" in caught.value.what
    assert f"the first is {split} shape 7" in caught.value.why


def test_an_empty_test_split_is_a_problem():
    with pytest.raises(Problem, match="no test shapes"):
        check(blobs()._replace(x_test=np.empty((0, 8), np.float32), y_test=np.empty(0, np.int64)))


def test_the_holdout_takes_its_part_of_every_class():
    labels = np.repeat([0, 1, 2], [10, 20, 5])
    chosen = holdout(labels, 0.2, seed=1)
    assert [int(chosen[labels == label].sum()) for label in range(3)] == [2, 4, 1]
    assert holdout(labels, 0.2, seed=2).tolist() != chosen.tolist()


def test_the_folds_deal_out_every_class_evenly():
    labels = np.repeat([0, 1, 2], [9, 4, 2])
    fold = stratified_folds(labels, 3, seed=0)
    assert np.bincount(fold).tolist() == [5, 5, 5]
    for label in range(3):
        sizes = np.bincount(fold[labels == label], minlength=3)
        assert sizes.max() - sizes.min() <= 1


def test_the_configurations_are_read_without_torch_and_scikit_learn():
    code = (
        "import sys; from jepa3d import plugins, tasks\n"
        f"for kind in {KINDS}: plugins.find(tasks, kind).Config()\n"
        "print([name for name in ('torch', 'sklearn') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

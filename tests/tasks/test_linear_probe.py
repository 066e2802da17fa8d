"""The linear probe equals scikit-learn called directly, and chooses C inside the train split."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from jepa3d.tasks import Features
from jepa3d.tasks._shared.splits import holdout
from jepa3d.tasks.linear_probe import Config, evaluate


def overlapping(train: int = 120, width: int = 30, seed: int = 0) -> Features:
    """Three classes that differ in two of `width` features, of very different scales."""
    random = np.random.default_rng(seed)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(n) % 3
        x = random.normal(size=(n, width))
        x[:, :2] += 1.5 * np.array([[0, 1], [1, 0], [-1, -1]])[y]
        return (x * np.geomspace(0.01, 100, width) + 3).astype(np.float32), y

    return Features(*draw(train), *draw(90), ("a", "b", "c"))


def test_with_one_c_it_is_logistic_regression_on_standardised_features():
    given = overlapping()
    result = evaluate(given, Config(grid=(0.03,)), seed=0)
    scaler = StandardScaler().fit(given.x_train.astype(float))
    direct = LogisticRegression(C=0.03, max_iter=1000).fit(scaler.transform(given.x_train), given.y_train)
    assert result.predicted.tolist() == direct.predict(scaler.transform(given.x_test.astype(float))).tolist()
    assert result.values["chosen_c"] == pytest.approx(math.log10(0.03))


def test_the_c_with_the_best_held_out_likelihood_is_chosen():
    given, grid, seed = overlapping(), (1e-3, 1e-1, 1e1), 4
    held = holdout(given.y_train, 0.2, seed)
    scaler = StandardScaler().fit(given.x_train[~held].astype(float))
    x, y = scaler.transform(given.x_train.astype(float)), given.y_train
    losses = []
    for c in grid:
        probe = LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(x[~held], y[~held])
        losses.append(-probe.predict_log_proba(x[held])[np.arange(held.sum()), y[held]].mean())
    found = evaluate(given, Config(grid=grid), seed).values["chosen_c"]
    assert found == pytest.approx(math.log10(grid[int(np.argmin(losses))]))
    assert found == pytest.approx(-1)


def test_noisy_features_ask_for_more_regularisation_than_clear_ones():
    noisy = overlapping(train=60, width=60)
    clear = noisy._replace(x_train=noisy.x_train[:, :2], x_test=noisy.x_test[:, :2])
    grid = tuple(10.0**power for power in range(-4, 3))
    assert (
        evaluate(noisy, Config(grid=grid), 0).values["chosen_c"]
        < evaluate(clear, Config(grid=grid), 0).values["chosen_c"]
    )


def test_the_order_of_the_grid_does_not_matter():
    one = evaluate(overlapping(), Config(grid=(0.01, 0.1, 1.0)), 0)
    two = evaluate(overlapping(), Config(grid=(1.0, 0.01, 0.1)), 0)
    assert one.values == two.values


def test_a_class_with_one_shape_does_no_harm():
    given = overlapping(train=12)
    labels = given.y_train.copy()
    labels[0] = 3
    for seed in range(8):
        assert np.isfinite(evaluate(given._replace(y_train=labels), Config(), seed).values["accuracy"])


def test_a_fit_that_did_not_converge_is_noted():
    assert evaluate(overlapping(), Config(grid=(1.0,), max_iter=1), 0).notes == (
        "the fit stopped at max_iter 1 before it had converged",
    )
    assert evaluate(overlapping(), Config(grid=(1.0,)), 0).notes == ()


def test_a_choice_at_the_edge_of_the_grid_is_noted():
    assert "at the edge of the grid" in evaluate(overlapping(), Config(grid=(1e-5, 1e-4)), 0).notes[0]


def test_metrics_by_hand():
    x = np.array([[-1.0], [-1.1], [1.0], [1.1], [0.9]], np.float32)
    given = Features(
        x, np.array([0, 0, 1, 1, 1]), np.array([[-1.0], [1.0], [1.0]], np.float32), np.array([0, 1, 0]), ("a", "b")
    )
    metrics = evaluate(given, Config(grid=(1.0,)), 0).values
    assert metrics["accuracy"] == pytest.approx(2 / 3)  # the third is a class-0 shape that looks like class 1
    assert metrics["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["majority"] == pytest.approx(1 / 3)
    assert metrics["train_accuracy"] == 1.0

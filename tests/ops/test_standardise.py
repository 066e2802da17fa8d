"""Features on one scale, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import StandardScaler

from jepa3d.ops.standardise import standardise


def spread(count: int, deviations: list[float], seed: int = 0) -> np.ndarray:
    """Features about 1 with exactly these standard deviations."""
    x = np.random.default_rng(seed).normal(size=(count, len(deviations)))
    return 1.0 + (x - x.mean(0)) / x.std(0) * deviations


def test_the_first_array_alone_decides_mean_and_deviation():
    train, other = standardise(np.array([[0.0], [2.0]], np.float32), np.array([[5.0]], np.float32))
    assert train.tolist() == [[-1.0], [1.0]]
    assert other.tolist() == [[4.0]]


def test_features_that_vary_are_as_scikit_learn_has_them():
    train, other = spread(50, [0.3, 1.0, 20.0]), spread(9, [1.0, 1.0, 1.0], seed=1)
    scaler = StandardScaler().fit(train)
    found = standardise(train, other)
    np.testing.assert_allclose(found[0], scaler.transform(train), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found[1], scaler.transform(other), rtol=1e-12, atol=1e-12)


def test_a_constant_feature_is_zero_and_says_nothing_of_others_either():
    train, other = standardise(np.full((3, 1), 7.0, np.float32), np.full((1, 1), 9.0, np.float32))
    assert train.tolist() == [[0.0]] * 3
    assert other.tolist() == [[0.0]]


def test_a_feature_that_varies_by_rounding_alone_is_zero():
    """The largest radius after the unit sphere: deviation 2e-8 about 1."""
    train = spread(200, [2e-8, 0.1, 0.2])
    found, other = standardise(train, train + 0.05)
    assert (found[:, 0] == 0).all()
    assert (other[:, 0] == 0).all()
    assert np.abs(other).max() < 5


def test_a_feature_that_hardly_varies_is_divided_by_a_hundredth_of_the_median():
    train = spread(200, [4e-5, 0.1, 0.2])
    found, other = standardise(train, train + 0.05)
    np.testing.assert_allclose(found.std(0), [4e-5 / (0.01 * 0.1), 1.0, 1.0])
    np.testing.assert_allclose(other[:, 0] - found[:, 0], 0.05 / (0.01 * 0.1))


def test_features_of_no_spread_do_not_lower_the_floor():
    """Dead units: more than half of the features are constant, and the median is that of the rest."""
    train = spread(200, [2e-8, 2e-8, 2e-8, 2e-8, 4e-5, 0.1, 0.2])
    np.testing.assert_allclose(standardise(train)[0].std(0), [0, 0, 0, 0, 0.04, 1.0, 1.0], atol=1e-12)


def test_the_scale_of_all_features_together_does_not_matter():
    train = spread(100, [4e-5, 0.1, 0.2]) - 1.0
    np.testing.assert_allclose(standardise(1e-9 * train)[0], standardise(train)[0])

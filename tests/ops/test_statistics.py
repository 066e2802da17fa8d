"""Intervals and paired tests, worked by hand, against scipy, and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jepa3d.ops.statistics import bootstrap_interval, paired_difference, paired_p


def test_equal_values_have_no_interval():
    assert bootstrap_interval(np.full(10, 0.25), seed=0) == (0.25, 0.25)


def test_the_interval_of_an_accuracy_is_that_of_the_binomial():
    right = np.repeat([1.0, 0.0], [90, 10])
    low, high = bootstrap_interval(right, seed=0)
    expected = stats.binom(100, 0.9).ppf([0.025, 0.975]) / 100
    assert [low, high] == pytest.approx(expected.tolist(), abs=0.011)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(random.normal(size=60), seed=trial, draws=400)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_blocks_of_draws_cover_all_of_them(monkeypatch: pytest.MonkeyPatch):
    values = np.arange(30.0)
    whole = bootstrap_interval(values, seed=1, draws=1000)
    monkeypatch.setattr("jepa3d.ops.statistics.BLOCK", 30 * 7)
    assert bootstrap_interval(values, seed=1, draws=1000) == pytest.approx(whole, abs=0.7)


def test_three_seeds_that_agree_cannot_give_less_than_a_quarter():
    assert paired_p(np.array([0.9, 0.8, 0.7]), np.array([0.5, 0.5, 0.5]), seed=0) == 0.25  # 2 of 8 sign patterns


def test_pairs_without_a_difference_say_nothing():
    assert paired_p(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]), seed=0) == 1.0  # one difference is left
    assert paired_p(np.ones(4), np.ones(4), seed=0) == 1.0


def test_the_sign_flip_test_of_right_and_wrong_is_mcnemars():
    a, b = np.repeat([1.0, 0.0, 1.0], [8, 2, 50]), np.repeat([0.0, 1.0, 1.0], [8, 2, 50])
    assert paired_p(a, b, seed=0) == pytest.approx(stats.binomtest(2, 10).pvalue)


def test_many_pairs_are_tested_by_random_patterns():
    a, b = np.repeat([1.0, 0.0], [30, 15]), np.repeat([0.0, 1.0], [30, 15])
    assert paired_p(a, b, seed=0) == pytest.approx(stats.binomtest(15, 45).pvalue, abs=0.01)


def test_the_order_of_the_methods_turns_the_difference_only():
    random = np.random.default_rng(2)
    a, b = random.normal(size=40) + 0.5, random.normal(size=40)
    one, two = paired_difference(a, b, seed=0), paired_difference(b, a, seed=0)
    assert one["mean"] == -two["mean"] == pytest.approx(np.mean(a - b))
    assert one["std"] == two["std"] == pytest.approx(np.std(a - b, ddof=1))
    assert one["low"] == pytest.approx(-two["high"], abs=0.02)
    assert one["p"] == two["p"]

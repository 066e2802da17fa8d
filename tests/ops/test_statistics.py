"""Intervals and paired tests, worked by hand, against scipy, and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies
from scipy import stats

from jepa3d.ops.statistics import (
    Interval,
    binomial_std,
    bootstrap_interval,
    hierarchical_interval,
    paired_difference,
    paired_p,
    resampled_means,
    verdict,
)


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


def test_one_seed_and_no_shapes_leave_nothing_to_resample():
    assert hierarchical_interval(np.empty(0), np.array([0.8]), seed=0) == (0.8, 0.8, 0.8, 1)


def test_seeds_alone_give_the_interval_of_student():
    """.7, .8, .9: mean .8, std .1, t(.975, 2) = 4.3027, so .8 ± 4.3027 * .1 / sqrt(3) = .8 ± .2484."""
    found = hierarchical_interval(np.empty(0), np.array([0.7, 0.8, 0.9]), seed=0, draws=200_000)
    assert found.mean == pytest.approx(0.8)
    assert [found.low, found.high] == pytest.approx([0.8 - 0.2484, 0.8 + 0.2484], abs=0.01)


def test_with_one_seed_the_interval_is_that_of_the_shapes():
    right = np.repeat([1.0, 0.0], [90, 10])
    found = hierarchical_interval(right, np.array([0.9]), seed=0)
    expected = stats.binom(100, 0.9).ppf([0.025, 0.975]) / 100
    assert [found.low, found.high] == pytest.approx(expected.tolist(), abs=0.011)


def test_shapes_and_seeds_add_up_in_squares():
    """100 shapes at .9 alone: ± 1.96 * .03; 30 seeds of std .1 alone: ± 2.0452 * .1 / sqrt(30)."""
    seeds = np.random.default_rng(0).normal(size=30)
    seeds = 0.9 + 0.1 * (seeds - seeds.mean()) / seeds.std(ddof=1)
    found = hierarchical_interval(np.repeat([1.0, 0.0], [90, 10]), seeds, seed=0, draws=100_000)
    half = ((1.96 * 0.03) ** 2 + (2.0452 * 0.1 / 30**0.5) ** 2) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)


def test_three_seeds_cover_the_truth_where_resampling_them_does_not():
    """Seeds differ, shapes are many: the interval of plain resampling is the seeds' own range, which holds the true
    mean in three of four cases (both of 2 ends: 1 - 2 / 2^3)."""
    random = np.random.default_rng(1)
    ours = plain = 0
    for trial in range(300):
        seeds = random.normal(size=3)
        found = hierarchical_interval(np.empty(0), seeds, seed=trial, draws=2000)
        ours += found.low <= 0 <= found.high
        plain += seeds.min() <= 0 <= seeds.max()
    assert 0.91 <= ours / 300 <= 0.985
    assert plain / 300 == pytest.approx(0.75, abs=0.08)


def test_counted_resampling_is_resampling():
    values = np.repeat([0.0, 1 / 3, 1.0], [5, 10, 25])
    by_count = resampled_means(np.array([0.0, 1 / 3, 1.0]), np.array([5, 10, 25]), 20_000, np.random.default_rng(0))
    by_shape = np.random.default_rng(1).choice(values, (20_000, 40)).mean(1)
    levels = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert np.quantile(by_count, levels) == pytest.approx(np.quantile(by_shape, levels), abs=0.01)


def test_the_binomial_spread_of_the_public_test_sets():
    """PB_T50_RS at 87 % and ModelNet40 at 93 %: the figures that one plans a comparison with."""
    assert 100 * binomial_std(0.87, 2882) == pytest.approx(0.63, abs=0.005)
    assert 100 * binomial_std(0.93, 2468) == pytest.approx(0.51, abs=0.005)


OURS = Interval(86.0, 85.0, 87.0, 3)  # half-width 1


@pytest.mark.parametrize(
    ("published", "spread", "rivals", "word"),
    [
        (86.8, 0.0, {"random_init": 77.2}, "reproduced"),  # 85 to 87 holds it
        (87.1, 0.0, {"random_init": 77.2}, "below"),
        (84.9, 0.0, {"random_init": 77.2}, "above"),
        (87.1, 0.5, {"random_init": 77.2}, "reproduced"),  # 1^2 + .98^2 = 1.4^2: 84.6 to 87.4
        (86.8, 0.0, {"M = 1": 84.6, "M = 2": 85.7}, "inconclusive"),  # 85.7 lies inside as well
        (86.8, 0.25, {}, "inconclusive"),  # half-width 1.11 > 2 * .49
        (86.8, 0.4, {}, "reproduced"),  # half-width 1.27 < 2 * .78
    ],
)
def test_verdicts_worked_by_hand(published: float, spread: float, rivals: dict[str, float], word: str):
    assert verdict(OURS, published, spread, rivals).word == word


def test_the_verdict_names_the_rival_that_it_cannot_tell_apart():
    found = verdict(OURS, 86.8, 0.0, {"M = 1": 84.6, "M = 2": 85.7})
    assert found.why == "85.0 to 87.0 holds it, but M = 2 (85.7) as well."


def test_a_single_seed_counts_the_spread_twice():
    """h^2 = 1 + 2 * (1.96 * .5)^2 = 2.92: 86 ± 1.71."""
    found = verdict(OURS._replace(n=1), 87.6, 0.5, {"random_init": 77.2})
    assert [found.low, found.high] == pytest.approx([84.29, 87.71], abs=0.005)
    assert found.word == "reproduced"
    assert verdict(OURS, 87.6, 0.5, {"random_init": 77.2}).word == "below"


def test_nothing_of_ours_is_not_run():
    assert verdict(None, 86.8, 0.6).word == "not run"


@given(
    mean=strategies.floats(50, 99), half=strategies.floats(0, 10), published=strategies.floats(50, 99),
    spread=strategies.floats(0, 3), rival=strategies.floats(50, 99),
)  # fmt: skip
def test_the_words_exclude_each_other_and_agree_with_the_interval(mean, half, published, spread, rival):
    found = verdict(Interval(mean, mean - half, mean + half, 3), published, spread, {"rival": rival})
    assert (found.word == "below") == (published > found.high)
    assert (found.word == "above") == (published < found.low)
    assert (found.word == "reproduced") <= (not found.low <= rival <= found.high)
    wider = verdict(Interval(mean, mean - half - 1, mean + half + 1, 3), published, spread, {"rival": rival})
    assert not (found.word == "inconclusive" and wider.word in ("above", "below", "reproduced"))

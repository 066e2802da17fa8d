"""Intervals and paired tests, worked by hand, against scipy, and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies
from scipy import stats

from jepa3d.ops.statistics import (
    Scores,
    binomial_std,
    difference_of_differences,
    hierarchical_interval,
    holm,
    paired_difference,
    paired_p,
    resampled_means,
)


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
    shapes, seeds = random.normal(size=40) + 0.5, np.array([-0.1, 0.0, 0.1])
    one = paired_difference(Scores(shapes.mean() + seeds, shapes), seed=0)
    two = paired_difference(Scores(-shapes.mean() - seeds, -shapes), seed=0)
    assert one.mean == -two.mean == pytest.approx(shapes.mean())
    assert one.low == pytest.approx(-two.high, abs=0.05)
    assert one.p == pytest.approx(two.p, abs=0.01)
    assert one.p_shapes == two.p_shapes


def test_seeds_alone_are_students_paired_test():
    a, b = np.array([0.80, 0.83, 0.87, 0.90]), np.array([0.75, 0.80, 0.79, 0.81])
    found = paired_difference(Scores(a - b, np.empty(0)), seed=0, draws=200_000)
    expected = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue, abs=0.002)
    assert [found.low, found.high] == pytest.approx(list(expected.confidence_interval(0.95)), abs=0.003)


def test_a_single_seed_has_no_p_over_seeds():
    found = paired_difference(Scores(np.array([0.5]), np.repeat([1.0, 0.0], 500)), seed=0)
    assert found.p is None
    assert found.p_shapes < 0.001
    assert (found.seeds, found.shapes, found.objects) == (1, 1000, 1000)


def test_shapes_of_another_mean_than_the_seeds_are_refused():
    with pytest.raises(ValueError, match=r"over the seeds is 0\.2, over the shapes 0\.5"):
        paired_difference(Scores(np.array([0.2, 0.2]), np.array([0.0, 1.0])), seed=0)


def test_copies_of_one_object_say_nothing_more():
    """Each of 60 objects five times, alike: the interval and p are those of the 60, and without the objects the
    interval would be sqrt(5) times too narrow."""
    random = np.random.default_rng(3)
    one = random.normal(0.2, 1, 60)
    five, objects = np.repeat(one, 5), np.repeat(np.arange(60), 5)
    seeds = np.full(3, one.mean())
    plain, clustered = paired_difference(Scores(seeds, one), 0), paired_difference(Scores(seeds, five, objects), 0)
    assert [clustered.low, clustered.high] == pytest.approx([plain.low, plain.high], abs=0.01)
    assert clustered.p == pytest.approx(plain.p, abs=0.01)
    assert clustered.p_shapes == pytest.approx(plain.p_shapes, abs=0.02)
    assert clustered.objects == 60
    blind = paired_difference(Scores(seeds, five), 0)
    assert (plain.high - plain.low) / (blind.high - blind.low) == pytest.approx(5**0.5, rel=0.05)


def test_the_spread_of_the_clustered_bootstrap_is_the_one_that_was_simulated():
    """Objects of 1 to 9 shapes, a deviation of each object (s.d. 1) and of each shape (s.d. 1): the interval is
    ± 1.96 of the standard deviation that the mean has over many simulated test sets."""
    random = np.random.default_rng(4)
    sizes = random.integers(1, 10, 150)
    objects = np.repeat(np.arange(150), sizes)

    def drawn() -> np.ndarray:
        return random.normal(size=150)[objects] + random.normal(size=len(objects))

    simulated = np.std([drawn().mean() for _ in range(400)])
    found = []
    for trial in range(10):
        values = drawn()
        interval = hierarchical_interval(values, np.array([values.mean()]), trial, objects=objects)
        found.append((interval.high - interval.low) / 2)
    assert np.mean(found) == pytest.approx(1.96 * simulated, rel=0.08)


def test_the_interval_of_a_paired_difference_covers_the_truth():
    """Three seeds, 40 objects of five shapes; seeds, objects, shapes and their pairs all vary; the truth is .3. A test
    at 5 % of no difference from .3 is wrong in at most 5 of 100 studies."""
    random = np.random.default_rng(5)
    covered = wrong = 0
    objects = np.repeat(np.arange(40), 5)
    for trial in range(200):
        each = 0.3 + 0.1 * random.normal(size=(3, 1)) + 0.4 * random.normal(size=40)[objects]
        each = each + 0.5 * random.normal(size=200) + 0.5 * random.normal(size=(3, 200))
        found = paired_difference(Scores(each.mean(1), each.mean(0), objects), trial, 500, 0.3)
        covered += found.low <= 0.3 <= found.high
        wrong += found.p < 0.05
    assert covered / 200 >= 0.93
    assert wrong / 200 <= 0.07


def test_the_interval_of_a_difference_of_differences_covers_the_truth():
    """A lead of .5 here and .2 there, other shapes, four seeds that lift both leads together."""
    random = np.random.default_rng(7)
    covered = wrong = 0
    for trial in range(200):
        lift = 0.3 * random.normal(size=(4, 1))
        here, there = (lead + lift + 0.1 * random.normal(size=(4, 1)) + random.normal(size=90) for lead in (0.5, 0.2))
        pair = [Scores(each.mean(1), each.mean(0)) for each in (here, there)]
        found = difference_of_differences(*pair, trial, 0.3, 500)
        covered += found.low <= 0.3 <= found.high
        wrong += found.p < 0.05
    assert 0.92 <= covered / 200 <= 0.995
    assert wrong / 200 <= 0.08
    assert (found.seeds, found.shapes) == (4, 180)


def test_holms_correction_by_hand():
    """.01 .02 .03 .5 of four: 4 * .01; 3 * .02; 2 * .03 = .06; .5."""
    assert holm([0.03, 0.5, 0.01, 0.02]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.5, 0.4]) == [0.8, 0.8]  # none falls below one before it: 2 * .4, then .5 raised to .8
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(strategies.lists(strategies.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferronis(values: list[float]):
    found = holm(values)
    for p, corrected in zip(values, found, strict=True):
        assert p <= corrected <= min(1.0, len(values) * p) or corrected == pytest.approx(min(1.0, len(values) * p))


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
    pairs = np.array([[0.0, 1.0], [1 / 3, 1.0], [1.0, 1.0]])
    by_count = resampled_means(pairs, np.array([5, 10, 25]), 20_000, np.random.default_rng(0))
    by_shape = np.random.default_rng(1).choice(values, (20_000, 40)).mean(1)
    levels = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert np.quantile(by_count, levels) == pytest.approx(np.quantile(by_shape, levels), abs=0.01)


def test_many_distinct_values_are_drawn_one_by_one_in_blocks(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(6).normal(size=200)
    pairs, once = np.stack([values, np.ones(200)], 1), np.ones(200, int)
    monkeypatch.setattr("jepa3d.ops.statistics.BLOCK", 200 * 77)
    found = resampled_means(pairs, once, 4000, np.random.default_rng(0))
    assert found.mean() == pytest.approx(values.mean(), abs=0.005)
    assert found.std() == pytest.approx(values.std() / 200**0.5, rel=0.05)


def test_the_binomial_spread_of_the_public_test_sets():
    """PB_T50_RS at 87 % and ModelNet40 at 93 %: the figures that one plans a comparison with."""
    assert 100 * binomial_std(0.87, 2882) == pytest.approx(0.63, abs=0.005)
    assert 100 * binomial_std(0.93, 2468) == pytest.approx(0.51, abs=0.005)

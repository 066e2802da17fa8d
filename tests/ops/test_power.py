"""Power: against the exact test, against simulated studies, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jepa3d.ops.power import design_effect, disagreement_std, power, seeds_needed
from jepa3d.ops.statistics import Scores, hierarchical_interval, paired_difference


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_on_the_same_shapes_it_is_the_power_of_students_paired_test(seeds: int):
    """Non-central t: delta = difference / sqrt(2 s^2 / n)."""
    delta, critical = 1.0 / (2 * 0.3**2 / seeds) ** 0.5, stats.t.ppf(0.975, seeds - 1)
    exact = stats.nct.sf(critical, seeds - 1, delta) + stats.nct.cdf(-critical, seeds - 1, delta)
    assert power(1.0, seeds, 0.3) == pytest.approx(exact, abs=0.002)


def test_without_a_difference_it_is_the_level():
    assert power(0.0, 3, 0.3) == pytest.approx(0.05, abs=0.001)
    assert power(0.0, 5, 0.3, 0.5) == pytest.approx(0.05, abs=0.015)


def test_a_single_seed_finds_nothing():
    assert power(50.0, 1, 0.1) == 0.0


def test_more_seeds_do_not_help_where_the_test_set_is_too_small():
    assert seeds_needed(0.5, 0.3) == 8
    assert seeds_needed(0.5, 0.3, sampling_std=0.6) is None
    assert seeds_needed(1.6, 0.3, sampling_std=0.5) is not None


def test_simulated_studies_are_decided_as_often_as_it_says():
    """Five seeds and a true difference of 1 point: the report's own test finds it as often as `power` says."""
    random = np.random.default_rng(0)
    found = 0
    for trial in range(150):
        shapes = random.normal(0, 0.3 * 10, 100)  # its mean has a standard deviation of .3
        seeds = 1.0 + shapes.mean() + random.normal(0, 0.3 * 2**0.5, 5)
        by_shape = shapes - shapes.mean() + seeds.mean()
        p = paired_difference(Scores(seeds, by_shape), trial, draws=300).p
        assert p is not None
        found += p < 0.05
    assert found / 150 == pytest.approx(power(1.0, 5, 0.3, 0.3), abs=0.1)


def test_the_design_effect_by_hand():
    """2,882 clouds of 581 objects: 4.96 each; with rho .5 the variance is 2.98 times as large."""
    assert design_effect(2882, 581, 0.5) == pytest.approx(2.98, abs=0.005)
    assert design_effect(2468, None, 0.5) == 1.0
    assert disagreement_std(0.1, 1000) == pytest.approx(1.0)


def test_the_design_effect_is_the_one_of_simulated_objects():
    """Each of 581 objects has a chance of its own (beta), five crops each are right with that chance: the clustered
    bootstrap finds the standard deviation that the design effect says, which the binomial's is far below."""
    random = np.random.default_rng(1)
    alike, mean = 0.5, 0.87
    chance = random.beta(mean * (1 / alike - 1), (1 - mean) * (1 / alike - 1), 581)
    objects = np.repeat(np.arange(581), 5)
    right = (random.random(len(objects)) < chance[objects]).astype(float)
    found = hierarchical_interval(right, np.array([right.mean()]), 0, objects=objects)
    binomial = (mean * (1 - mean) / len(right)) ** 0.5
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(
        binomial * design_effect(len(right), 581, alike) ** 0.5, rel=0.12
    )

"""Draws are functions of (seed, epoch, shape, purpose) and of nothing else."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jepa3d.ops.draws import normal, shape_keys, uniform


def keys(count: int, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return shape_keys(seed, torch.full((count,), epoch), torch.arange(count))


def test_uniform_numbers_are_uniform_and_independent():
    drawn = uniform(keys(4000), "mask", 10).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(10)).max() < 0.08  # positions of one shape
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.08  # neighbouring shapes


def test_normal_numbers_are_normal():
    drawn = normal(keys(2000), "jitter", 5, 3).numpy()
    assert drawn.shape == (2000, 5, 3)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    assert np.isfinite(drawn).all()


@given(st.permutations(list(range(6))), st.integers(1, 6))
def test_a_shapes_numbers_do_not_depend_on_its_batch(order: list[int], size: int):
    whole = uniform(keys(6), "rotate", 3)
    chosen = torch.tensor(order[:size])
    alone = uniform(shape_keys(0, torch.zeros(size, dtype=torch.long), chosen), "rotate", 3)
    assert torch.equal(alone, whole[chosen])


def test_seed_epoch_shape_and_purpose_each_change_the_numbers():
    base = uniform(keys(50), "mask", 4)
    for other in (
        uniform(keys(50, seed=1), "mask", 4),
        uniform(keys(50, epoch=1), "mask", 4),
        uniform(keys(50), "x", 4),
    ):
        assert (other != base).float().mean() > 0.99
        assert abs(np.corrcoef(other.flatten(), base.flatten())[0, 1]) < 0.2
    assert len(set(base[:, 0].tolist())) == 50


def test_keys_of_many_epochs_and_shapes_do_not_collide():
    epochs, shapes = torch.meshgrid(torch.arange(300), torch.arange(1000), indexing="ij")
    assert len(torch.unique(shape_keys(0, epochs.flatten(), shapes.flatten()))) == 300_000


def test_more_numbers_begin_with_the_fewer():
    assert torch.equal(uniform(keys(3), "mask", 10)[:, :4], uniform(keys(3), "mask", 4))

"""Interpolation from patch centres: by hand, and laws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa3d.ops.propagate import inverse_distance, propagate


def drawn(seed: int, points: int = 20, centres: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, points, 3, generator=random), torch.randn(2, centres, 3, generator=random)


def test_three_centres_by_hand():
    """A point at squared distances 1, 1 and 4: weights 1, 1, 1/4 over their sum, the far centre has none."""
    centres = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 2], [9, 9, 9]]])
    weights = inverse_distance(torch.zeros(1, 1, 3), centres)
    assert weights[0, 0].tolist() == pytest.approx([4 / 9, 4 / 9, 1 / 9, 0], abs=1e-6)
    features = torch.tensor([[[9.0], [0.0], [18.0], [1e6]]])
    assert propagate(features, centres, torch.zeros(1, 1, 3)).item() == pytest.approx(6.0, abs=1e-4)


def test_two_centres_are_all_the_neighbours_there_are():
    weights = inverse_distance(torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0, 0], [0, 2, 0]]]))
    assert weights[0, 0].tolist() == pytest.approx([4 / 5, 1 / 5])


def test_it_is_the_direct_sum_over_each_points_three_nearest():
    points, centres = drawn(0)
    features = torch.randn(2, 6, 5)
    found = propagate(features, centres, points)
    for shape in range(2):
        for number, point in enumerate(points[shape]):
            squared = ((centres[shape] - point) ** 2).sum(1)
            near = squared.argsort()[:3]
            weight = 1 / squared[near]
            expected = (weight[:, None] * features[shape, near]).sum(0) / weight.sum()
            assert torch.allclose(found[shape, number], expected, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_weights_are_a_partition_of_unity_over_three_centres(seed: int):
    weights = inverse_distance(*drawn(seed))
    assert torch.allclose(weights.sum(-1), torch.ones(2, 20), atol=1e-5)
    assert (weights >= 0).all()
    assert ((weights > 0).sum(-1) <= 3).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_at_a_centre_it_is_the_centres_feature(seed: int):
    _, centres = drawn(seed)
    features = torch.randn(2, 6, 4)
    assert torch.allclose(propagate(features, centres, centres), features, atol=1e-3)


def test_a_constant_stays_constant_and_a_linear_layer_may_come_first():
    points, centres = drawn(3)
    assert torch.allclose(propagate(torch.full((2, 6, 1), 7.0), centres, points), torch.tensor(7.0))
    features, layer = torch.randn(2, 6, 4), torch.randn(4, 3)
    after, before = propagate(features, centres, points) @ layer, propagate(features @ layer, centres, points)
    assert torch.allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("move", [2.0, "shift"])
def test_uniform_scale_and_shift_change_no_weight(move: float | str):
    points, centres = drawn(4)
    moved = (points + 1, centres + 1) if move == "shift" else (points * move, centres * move)
    assert torch.allclose(inverse_distance(*moved), inverse_distance(points, centres), atol=1e-4)

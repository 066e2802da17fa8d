"""The handcrafted features: what they are on shapes one can reckon, and what leaves them alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa3d.ops import descriptors
from jepa3d.ops.descriptors import handcrafted


def clouds(seed: int, points: int = 64, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, points, 3, generator=generator) - 0.5


def turned(points: torch.Tensor, angle: float) -> torch.Tensor:
    """Rotated about y."""
    c, s = math.cos(angle), math.sin(angle)
    return points @ torch.tensor([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])


def named(features: torch.Tensor) -> dict[str, torch.Tensor]:
    """The 129 numbers of each cloud by the part they come from."""
    names = ("distance", "radius", "height", "pairs", "nearest", "profile", "moments", "harmonics", "extent")
    return dict(zip(names, features.split((16, 16, 16, 32, 8, 24, 5, 8, 4), dim=1), strict=True))


def lattice() -> torch.Tensor:
    axis = torch.linspace(-0.5, 0.5, 5)
    return torch.cartesian_prod(axis, axis, axis)[None]


def test_there_are_129_finite_numbers_a_cloud():
    features = handcrafted(clouds(0, batch=3))
    assert features.shape == (3, descriptors.WIDTH)
    assert features.dtype == torch.float32
    assert features.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(-math.pi, math.pi))
def test_an_upright_rotation_changes_nothing(seed: int, angle: float):
    points = clouds(seed)
    assert torch.allclose(handcrafted(turned(points, angle)), handcrafted(points), atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_another_order_of_the_points_changes_nothing(seed: int):
    points = clouds(seed)
    shuffled = points[:, torch.randperm(64, generator=torch.Generator().manual_seed(seed))]
    assert torch.allclose(handcrafted(shuffled), handcrafted(points), atol=1e-6)


def test_a_shift_changes_nothing():
    points = clouds(3)
    assert torch.allclose(handcrafted(points + torch.tensor([3.0, 0.0, -1.0])), handcrafted(points), atol=2e-4)


@pytest.mark.parametrize("angle", [0.3, math.pi / 4, 2.0])
def test_a_lattice_with_its_many_equal_distances_stays_too(angle: float):
    assert torch.allclose(handcrafted(turned(lattice(), angle)), handcrafted(lattice()), atol=2e-2)


def test_a_tilt_is_seen():
    points = clouds(1) * torch.tensor([0.2, 1.0, 0.2])
    assert (handcrafted(points[..., [1, 0, 2]]) - handcrafted(points)).abs().max() > 0.1


def test_a_cloud_does_not_see_the_others_of_its_batch():
    points = clouds(5, batch=4)
    assert torch.equal(handcrafted(points)[2:3], handcrafted(points[2:3]))


def test_two_points_on_a_vertical_line_by_hand():
    found = named(handcrafted(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])))
    assert found["distance"].tolist() == [[1.0] * 16]
    assert found["radius"].tolist() == [[0.0] * 16]
    assert found["height"][0, [0, -1]].tolist() == [-1.0, 1.0]
    assert found["pairs"].tolist() == [[0.0] * 31 + [1.0]]  # the one distance is the diameter: the last bin
    assert found["nearest"].tolist() == [[2.0] * 8]
    assert found["profile"][0, :8].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0.5]
    assert found["moments"].tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]
    assert found["extent"].tolist() == [[2.0, 0.5, 1.0, 0.0]]


def test_the_pairs_of_a_cloud_are_all_counted():
    assert named(handcrafted(clouds(0)))["pairs"].sum(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_a_square_seen_from_above_has_fourfold_symmetry():
    square = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]]])
    harmonics = named(handcrafted(square))["harmonics"][0]  # k = 2 .. 9
    assert harmonics.tolist() == pytest.approx([0, 0, 1, 0, 0, 0, 1, 0], abs=1e-6)


def test_a_cone_narrows_in_its_profile():
    height = torch.linspace(0, 1, 65)
    angle = torch.arange(65) * 2.4
    cone = torch.stack([(1 - height) * angle.cos(), height, (1 - height) * angle.sin()], dim=1)[None]
    largest = named(handcrafted(cone))["profile"][0, 16:]
    assert (largest.diff() < 0).all()


def test_duplicate_points_are_at_distance_zero():
    points = clouds(2).repeat(1, 2, 1)
    assert named(handcrafted(points))["nearest"].abs().max() == 0

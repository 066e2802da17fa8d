"""Augmentation: what each step keeps, what it changes, and when cached patch indices stay exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa3d.ops.augment import augment, exact_for_cache, resample, so3_rotation, upright_rotation
from jepa3d.ops.draws import shape_keys, uniform
from jepa3d.ops.geometry import farthest_point_sample, gather, knn
from jepa3d.params import Augment, Jitter


def keys(count: int, epoch: int = 0) -> torch.Tensor:
    return shape_keys(0, torch.full((count,), epoch), torch.arange(count))


def clouds(count: int, points: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed))


def distances(points: torch.Tensor) -> torch.Tensor:
    return (points[:, :, None] - points[:, None]).norm(dim=-1)


def test_no_augmentation_changes_nothing():
    assert torch.equal(augment(clouds(3), keys(3), Augment()), clouds(3))


def test_points_are_drawn_without_repetition_in_the_order_of_the_shapes_numbers_and_moved_to_the_unit_sphere():
    stored, count = clouds(3), 20
    drawn = resample(stored, keys(3), count)
    for cloud, mine, numbers in zip(stored, drawn, uniform(keys(3), "points", 64), strict=True):
        order = sorted(range(64), key=lambda point: float(numbers[point]))[:count]
        chosen = cloud[order].double() - cloud[order].double().mean(0)
        assert torch.allclose(mine, (chosen / chosen.norm(dim=1).max()).float(), atol=1e-6)
    assert torch.equal(drawn[1:2], resample(stored[1:2], keys(3)[1:2], count))  # nothing but the shape's key decides
    assert not torch.allclose(drawn, resample(stored, keys(3, epoch=1), count))


def test_a_quarter_turn_about_the_vertical_by_hand():
    turned = torch.tensor([1.0, 5.0, 0.0]) @ upright_rotation(torch.tensor([0.25]))[0]
    assert turned.tolist() == pytest.approx([0.0, 5.0, 1.0], abs=1e-6)


def test_an_upright_rotation_keeps_heights_and_distances():
    before, after = clouds(20), augment(clouds(20), keys(20), Augment(rotate="upright"))
    assert torch.allclose(before[..., 1], after[..., 1], atol=1e-6)
    assert torch.allclose(distances(before), distances(after), atol=1e-5)
    assert (before[..., 0] - after[..., 0]).abs().amax(1).min() > 1e-3  # every shape was turned


def test_a_rotation_in_space_is_orthonormal_of_determinant_one_and_uniform():
    draws = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    rotation = so3_rotation(draws)
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(4000, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(4000), atol=1e-5)
    poles = rotation[:, 1]  # where the vertical goes: uniform on the sphere, so every coordinate is uniform
    assert poles.mean(0).abs().max() < 0.05
    assert (poles.square().mean(0) - 1 / 3).abs().max() < 0.03


def test_a_uniform_scale_is_one_factor_a_shape_within_its_range():
    factor = augment(clouds(500), keys(500), Augment(scale=(0.5, 2.0))) / clouds(500)
    assert torch.allclose(factor, factor[:, :1, :1].expand_as(factor), rtol=1e-4)
    assert 0.5 <= factor.min() < 0.55
    assert 1.95 < factor.max() <= 2.0001


def test_a_scale_per_axis_has_three_factors():
    factor = augment(clouds(50), keys(50), Augment(scale=(0.5, 2.0), scale_per_axis=True)) / clouds(50)
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), rtol=1e-4)
    assert factor[:, 0].std(1).min() > 1e-3


def test_a_shift_moves_the_whole_shape_within_its_range():
    moved = augment(clouds(500), keys(500), Augment(shift=0.2)) - clouds(500)
    assert torch.allclose(moved, moved[:, :1].expand_as(moved), atol=1e-5)
    assert 0.19 < moved.abs().max() <= 0.2001
    assert moved[:, 0].mean(0).abs().max() < 0.02


def test_jitter_has_its_deviation_and_its_bound():
    noise = augment(clouds(50, 200), keys(50), Augment(jitter=Jitter(std=0.01, clip=0.02))) - clouds(50, 200)
    assert noise.abs().max() <= 0.02001
    assert noise.std().item() == pytest.approx(0.00959, abs=1e-4)  # of a normal clipped at two deviations


def test_the_draws_belong_to_the_shape_and_the_epoch():
    settings_ = Augment(scale=(0.8, 1.2), rotate="so3", shift=0.1, jitter=Jitter())
    whole = augment(clouds(8), keys(8), settings_)
    assert torch.allclose(augment(clouds(8)[2:5], keys(8)[2:5], settings_), whole[2:5], atol=1e-6)
    assert not torch.allclose(augment(clouds(8), keys(8, epoch=1), settings_), whole, atol=1e-2)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["none", "upright", "so3"]), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_cached_indices_are_those_of_the_augmented_cloud_under_exact_augmentations(
    seed: int, rotate: str, scaled: bool, shift: float
):
    entry = Augment(rotate=rotate, scale=(0.67, 1.5) if scaled else None, shift=shift)
    assert exact_for_cache(entry)
    # one point far from each other: no near-ties that rounding could turn around
    cloud = clouds(1, 24, seed)
    away = torch.cdist(cloud.double(), cloud.double())[0].square()
    gaps = away.flatten().unique().diff()
    if gaps.min() < 1e-4:
        return
    after = augment(cloud, keys(1), entry)
    centre = farthest_point_sample(cloud, 6)
    assert torch.equal(centre, farthest_point_sample(after, 6))
    assert torch.equal(knn(cloud, gather(cloud, centre), 5), knn(after, gather(after, centre), 5))


@pytest.mark.parametrize("entry", [Augment(scale=(0.67, 1.5), scale_per_axis=True), Augment(jitter=Jitter(std=0.05))])
def test_scale_per_axis_and_jitter_change_some_indices_and_say_so(entry: Augment):
    assert not exact_for_cache(entry)
    cloud = clouds(20, 256)
    after = augment(cloud, keys(20), entry)
    centre = farthest_point_sample(cloud, 32)
    before, recomputed = knn(cloud, gather(cloud, centre), 16), knn(after, gather(after, centre), 16)
    kept = np.mean(
        [
            len(set(a) & set(b)) / 16
            for a, b in zip(before.view(-1, 16).tolist(), recomputed.view(-1, 16).tolist(), strict=True)
        ]
    )
    assert 0.5 < kept < 1.0


def test_a_full_turn_is_no_turn():
    assert torch.allclose(upright_rotation(torch.tensor([1.0])), torch.eye(3)[None], atol=1e-6)
    assert math.isclose(float(upright_rotation(torch.tensor([0.5]))[0, 0, 0]), -1.0, abs_tol=1e-6)

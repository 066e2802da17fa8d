"""Corruptions: nothing at severity 0, more at each severity, the same for the same key, and the right counts."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from jepa3d.ops.corruptions import LEVELS, SEVERITIES, UNITS, corrupt, directions, radius, rotation_about
from jepa3d.ops.draws import shape_keys

KINDS = sorted(LEVELS)
COUNT = 80


@pytest.fixture
def clouds() -> torch.Tensor:
    return torch.randn(3, COUNT, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def keys() -> torch.Tensor:
    return shape_keys(1, torch.zeros(3, dtype=torch.long), torch.arange(3))


def rows(cloud: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(point) for point in cloud.tolist()}


@pytest.mark.parametrize("kind", KINDS)
def test_severity_0_is_identity(kind: str, clouds: torch.Tensor, keys: torch.Tensor):
    assert torch.equal(corrupt(clouds, keys, kind, 0), clouds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_is_corrupted_alike_whatever_its_batch(kind: str, clouds: torch.Tensor, keys: torch.Tensor):
    together = corrupt(clouds, keys, kind, 3)
    alone = torch.cat([corrupt(clouds[i : i + 1], keys[i : i + 1], kind, 3) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)
    other = corrupt(clouds, keys + 1, kind, 3)
    assert not torch.allclose(together, other)


@pytest.mark.parametrize("kind", KINDS)
def test_severities_grow_from_nothing_and_have_a_unit(kind: str):
    levels = LEVELS[kind]
    assert len(levels) == len(SEVERITIES) == 6
    assert levels[0] == 0
    assert all(a < b for a, b in pairwise(levels))
    assert UNITS[kind]


@pytest.mark.parametrize("kind", ["rotation", "jitter"])
def test_points_move_farther_at_each_severity(kind: str, clouds: torch.Tensor, keys: torch.Tensor):
    moved = [(corrupt(clouds, keys, kind, severity) - clouds).norm(dim=-1).mean(1) for severity in SEVERITIES]
    assert all((a < b).all() for a, b in pairwise(moved))


@pytest.mark.parametrize("kind", ["dropout", "occlusion"])
def test_what_is_lost_at_one_severity_is_lost_at_the_next(kind: str, clouds: torch.Tensor, keys: torch.Tensor):
    kept = [corrupt(clouds, keys, kind, severity) for severity in SEVERITIES]
    for shape in range(3):
        sets = [rows(cloud[shape]) for cloud in kept]
        assert all(b < a for a, b in pairwise(sets))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_counts(severity: int, clouds: torch.Tensor, keys: torch.Tensor):
    for kind, sign in (("dropout", -1), ("occlusion", -1), ("clutter", 1), ("rotation", 0), ("jitter", 0)):
        expected = COUNT + sign * round(LEVELS[kind][severity] * COUNT)
        assert corrupt(clouds, keys, kind, severity).shape == (3, expected, 3)


@pytest.mark.parametrize("kind", ["dropout", "occlusion"])
def test_what_is_left_is_part_of_the_cloud_in_its_order(kind: str, clouds: torch.Tensor, keys: torch.Tensor):
    left = corrupt(clouds, keys, kind, 4)
    for shape in range(3):
        places = [clouds[shape].tolist().index(point) for point in left[shape].tolist()]
        assert places == sorted(set(places))


def test_rotation_turns_by_its_angle_and_keeps_distances(clouds: torch.Tensor, keys: torch.Tensor):
    axis = directions(keys, "any")
    for degrees in (15.0, 120.0, 180.0):
        turn = rotation_about(axis, degrees)
        assert torch.allclose(turn @ turn.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
        trace = turn.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert torch.allclose(trace, torch.tensor(1 + 2 * math.cos(math.radians(degrees))), atol=1e-5)
        assert torch.allclose((axis[:, None] @ turn)[:, 0], axis, atol=1e-6)
    turned = corrupt(clouds, keys, "rotation", 4)
    apart, before = ((cloud - cloud.flip(1)).norm(dim=-1) for cloud in (turned, clouds))
    assert torch.allclose(apart, before, atol=1e-5)


def test_a_quarter_turn_about_y_by_hand():
    turn = rotation_about(torch.tensor([[0.0, 1.0, 0.0]]), 90.0)
    found = torch.tensor([[[1.0, 2.0, 0.0]]]) @ turn
    assert found[0, 0].abs().tolist() == pytest.approx([0.0, 2.0, 1.0], abs=1e-6)


def test_jitter_has_its_deviation_in_radii_of_the_cloud():
    cloud = 10 * torch.randn(1, 4000, 3, generator=torch.Generator().manual_seed(0))
    noise = corrupt(cloud, torch.tensor([5]), "jitter", 2) - cloud
    assert (noise.std() / radius(cloud)).item() == pytest.approx(0.02, rel=0.05)


def test_occlusion_leaves_one_side_of_a_plane(clouds: torch.Tensor, keys: torch.Tensor):
    left = corrupt(clouds, keys, "occlusion", 5)
    for shape in range(3):
        kept = rows(left[shape])
        lost = torch.tensor([point for point in clouds[shape].tolist() if tuple(point) not in kept])
        normal = directions(keys, "corrupt occlusion")[shape]
        assert (left[shape] @ normal).max() < (lost @ normal).min()


def test_clutter_comes_after_the_object_and_within_its_sphere(clouds: torch.Tensor, keys: torch.Tensor):
    found = corrupt(clouds, keys, "clutter", 5)
    assert torch.equal(found[:, :COUNT], clouds)
    background = found[:, COUNT:] - clouds.mean(1, keepdim=True)
    assert (background.norm(dim=-1) <= radius(clouds)[:, 0] + 1e-5).all()
    fewer = corrupt(clouds, keys, "clutter", 3)
    assert torch.equal(found[:, : fewer.shape[1]], fewer)


def test_directions_are_even_over_the_sphere():
    found = directions(torch.tensor([3]), "any", 20_000)[0]
    assert torch.allclose(found.norm(dim=-1), torch.ones(20_000), atol=1e-5)
    assert found.mean(0).abs().max() < 0.02
    assert torch.allclose(found.T @ found / 20_000, torch.eye(3) / 3, atol=0.01)

"""A depth camera's view: what is hidden, and how dense its pixels lie."""

from __future__ import annotations

import numpy as np
import pytest

from jepa3d.ops.primitives import ball, box, join, sample
from jepa3d.ops.scan import choose, density, incidence, visible

CAMERA = np.array([3.0, 0.0, 0.0])


def seen(mesh, count=20_000):
    points, normals, _ = sample(mesh, np.zeros(len(mesh.faces), int), count, np.random.default_rng(0))
    return points, visible(points, incidence(points, normals, CAMERA), CAMERA, int(np.sqrt(count / 2)))


def test_of_a_ball_the_cap_before_the_horizon_is_seen():
    points, mask = seen(ball(0.9, 0.9, 0.9))
    horizon = 0.9**2 / 3  # where the tangent from the camera touches
    assert mask[points[:, 0] > horizon + 0.1].mean() > 0.98
    assert mask[points[:, 0] < horizon - 0.25].mean() < 0.01


def test_a_wall_hides_what_is_behind_it_and_nothing_beside_it():
    wall = box(0.02, 0.6, 0.6).moved(0.5)
    behind, beside = box(0.1, 0.1, 0.1).moved(-0.5), box(0.1, 0.1, 0.1).moved(-0.5, 0.0, 0.8)
    points, mask = seen(join([wall, behind, beside]))
    back = points[:, 0] < 0
    assert not mask[back & (np.abs(points[:, 2]) < 0.2)].any()
    front_of_beside = back & (points[:, 2] > 0.5) & (points[:, 0] > -0.451)
    assert mask[front_of_beside].mean() > 0.99


def test_a_face_seen_from_straight_ahead_has_incidence_one_and_from_its_edge_none():
    points = np.zeros((2, 3))
    normals = np.array([[-1.0, 0, 0], [0, 1.0, 0]])  # either side of a surface counts
    assert incidence(points, normals, CAMERA).tolist() == [1, 0]


def test_pixels_thin_out_with_the_square_of_the_distance():
    points = np.array([[2.0, 0, 0], [1.0, 0, 0]])  # 1 and 2 from the camera
    near, far = density(points, np.ones(2), CAMERA, 1.0)
    assert near / far == pytest.approx(4)
    assert density(points, np.ones(2), CAMERA, 0.0).tolist() == [1, 1]


def test_a_choice_takes_each_point_once_and_the_heavy_ones_more_often():
    weights = np.repeat([1.0, 9.0], 5000)
    chosen = choose(weights, 1000, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 1000
    assert np.mean(chosen >= 5000) == pytest.approx(0.9, abs=0.03)


def test_a_choice_of_more_than_there_are_has_them_all_and_repeats_some():
    chosen = choose(np.ones(10), 15, np.random.default_rng(0))
    assert len(chosen) == 15
    assert set(chosen.tolist()) == set(range(10))

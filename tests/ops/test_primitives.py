"""Surfaces whose areas and positions a reader can work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from jepa3d.ops.primitives import Mesh, areas, ball, box, cylinder, join, lathe, loft, plate, ring, rotate, sample, tube

WHOLE_TURN = 2 * np.pi


def area(mesh: Mesh) -> float:
    return float(areas(mesh)[0].sum())


def test_a_box_has_the_area_of_its_six_faces():
    assert area(box(1, 2, 3)) == pytest.approx(2 * (1 * 2 + 2 * 3 + 1 * 3))


def test_a_cylinder_of_many_sides_has_a_mantle_and_two_lids():
    assert area(cylinder(1, 3, segments=200)) == pytest.approx(WHOLE_TURN * 3 + 2 * np.pi, rel=1e-3)


def test_a_cone_is_a_cylinder_whose_upper_radius_is_nothing():
    slant = np.hypot(3, 4)
    assert area(cylinder(3, 4, top=0, segments=200)) == pytest.approx(np.pi * 3 * slant + np.pi * 9, rel=1e-3)


def test_the_vertices_of_a_ball_lie_on_its_ellipsoid():
    assert np.allclose(((ball(1, 2, 3).vertices / (1, 2, 3)) ** 2).sum(1), 1)


def test_a_ring_has_the_area_of_a_torus():
    assert area(ring(2, 0.5, segments=200)) == pytest.approx(WHOLE_TURN * 2 * WHOLE_TURN * 0.5, rel=0.03)


def test_a_lathe_turns_its_profile_about_the_vertical():
    mesh = lathe([(2, 0), (2, 5)])
    assert np.allclose(np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 2]), 2)
    assert (mesh.vertices[:, 1].min(), mesh.vertices[:, 1].max()) == (0, 5)


def test_a_straight_tube_keeps_its_radius_from_its_path():
    mesh = tube([(0, 0, 0), (4, 0, 0)], 0.5, segments=64)
    from_axis = np.hypot(mesh.vertices[:, 1], mesh.vertices[:, 2])
    assert np.allclose(from_axis, np.where(np.isclose(from_axis, 0), 0, 0.5))
    assert area(mesh) == pytest.approx(WHOLE_TURN * 0.5 * 4 + 2 * np.pi * 0.25, rel=1e-2)


def test_a_strap_is_thin_across_the_plane_that_its_path_turns_in():
    arc = np.linspace(0, np.pi, 9)
    mesh = tube(np.stack([np.cos(arc), np.sin(arc), 0 * arc], 1), 0.1, flat=0.2)
    assert np.abs(mesh.vertices[:, 2]).max() == pytest.approx(0.02)


def test_a_loft_through_equal_ellipses_is_an_elliptic_cylinder():
    mesh = loft([(0, 2, -1, 1), (3, 2, -1, 1)])
    z, y = mesh.vertices[:, 2] / 2, mesh.vertices[:, 1]
    on_axis = np.isclose(z, 0) & np.isclose(y, 0)
    assert np.allclose((z**2 + y**2)[~on_axis], 1)


def test_a_loft_of_high_power_fills_its_bounding_box():
    square = loft([(0, 1, 0, 2), (1, 1, 0, 2)], power=50, segments=40)
    assert area(square) == pytest.approx(2 * 2 * 2 + 4 * 2 * 1, rel=0.05)


def test_a_plate_between_two_lines_is_a_slab_with_two_open_surfaces_closed_by_its_rim():
    assert area(plate([(0, 0), (4, 0)], [(0, 2), (4, 2)], 0.5)) == pytest.approx(2 * 8 + 2 * 4 * 0.5 + 2 * 2 * 0.5)


def test_a_quarter_turn_about_the_vertical_takes_z_to_x():
    assert np.allclose(rotate(np.array([[0.0, 1.0, 2.0]]), "y", np.pi / 2), [[2, 1, 0]])


def test_moved_scaled_and_turned_copies_share_their_faces_and_leave_the_original_alone():
    mesh = box(1, 1, 1)
    before = mesh.vertices.copy()
    copy = mesh.moved(x=1).scaled(2, 1, 1).turned("y", 0.3)
    assert copy.faces is mesh.faces
    assert np.array_equal(mesh.vertices, before)


def test_joined_meshes_keep_their_areas():
    assert area(join([box(1, 1, 1), box(2, 2, 2).moved(5)])) == pytest.approx(6 + 24)


def test_samples_are_shared_out_by_area_and_carry_the_label_and_the_normal_of_their_triangle():
    small, large = box(1, 1, 1), box(2, 2, 2).moved(10)
    label = np.repeat([7, 9], [len(small.faces), len(large.faces)])
    found = sample(join([small, large]), label, 20_000, np.random.default_rng(0))
    assert set(found.label) == {7, 9}
    assert np.mean(found.label == 9) == pytest.approx(24 / 30, abs=0.01)
    assert np.array_equal(found.label == 9, found.points[:, 0] > 5)
    centre = np.where(found.label == 9, 10, 0)[:, None] * (1, 0, 0)
    offset = (found.points - centre) / np.where(found.label == 9, 2, 1)[:, None]
    assert np.allclose(np.abs((offset * found.normals).sum(1)), 0.5)  # every face is half an edge from the centre
    assert np.allclose(found.points[found.label == 7].mean(0), 0, atol=0.03)

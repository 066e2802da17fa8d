"""Bend, twist and taper, worked by hand and as laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa3d.ops.deform import bend, taper, twist

AXES = st.sampled_from("xyz")
AMOUNTS = st.floats(-1.5, 1.5)
CLOUD = np.random.default_rng(0).uniform(-0.7, 0.7, (50, 3))


def test_a_taper_widens_one_end_and_narrows_the_other():
    ends = np.array([[1.0, 1.0, 2.0], [1.0, -1.0, 2.0]])
    assert np.allclose(taper(ends, "y", 0.5), [[1.5, 1, 3], [0.5, -1, 1]])


def test_a_twist_by_a_half_turn_turns_each_end_by_a_quarter():
    ends = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]])
    assert np.allclose(twist(ends, "y", np.pi), [[0, 1, -1], [0, -1, 1]])


def test_a_rod_bent_by_a_half_turn_is_a_half_circle_of_the_same_length():
    rod = np.stack([np.linspace(-1, 1, 201), np.zeros(201), np.zeros(201)], 1)
    bent = bend(rod, "x", np.pi)
    assert np.allclose(np.hypot(bent[:, 0], bent[:, 1] - 2 / np.pi), 2 / np.pi)
    assert np.linalg.norm(np.diff(bent, axis=0), axis=1).sum() == pytest.approx(2, rel=1e-3)


@given(AXES, AMOUNTS)
def test_a_twist_keeps_every_distance_from_the_axis(axis, angle):
    assert np.allclose(np.linalg.norm(twist(CLOUD, axis, angle), axis=1), np.linalg.norm(CLOUD, axis=1))


@given(AXES)
def test_no_amount_is_no_deformation(axis):
    for deform in (bend, taper, twist):
        assert np.array_equal(deform(CLOUD, axis, 0.0), CLOUD)


@given(AXES, AMOUNTS)
def test_the_middle_of_a_shape_stays_where_it_is(axis, amount):
    for deform in (bend, taper, twist):
        assert np.allclose(deform(np.zeros((1, 3)), axis, amount), 0)


@given(AXES, st.floats(1e-5, 1e-3))
def test_a_slight_bend_is_nearly_none(axis, angle):
    assert np.abs(bend(CLOUD, axis, angle) - CLOUD).max() < angle

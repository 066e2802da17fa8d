"""Solids: inside is what the surface encloses, also after every change of space."""

from __future__ import annotations

import numpy as np
import pytest

from jepa3d.ops import deform, solids
from jepa3d.ops.primitives import areas
from jepa3d.ops.solids import Solid

RANDOM = np.random.default_rng(0)
SOLIDS = {
    "superquadric": solids.superquadric(0.5, 1.5),
    "box-like": solids.superquadric(0.2, 0.2),
    "cuboid": solids.cuboid(),
    "revolved": solids.revolved([(0.5, -1), (1, 0), (0.2, 1)]),
    "extruded": solids.extruded(RANDOM.uniform(0.4, 1, 8)),
    "torus": solids.torus(0.3),
    "tubular": solids.tubular([(0, -1, 0), (0.5, 0, 0), (0, 1, 0.3)], 0.2),
}
CHANGES = {
    "as it is": lambda solid: solid,
    "moved": lambda solid: solid.moved(np.array([0.3, -0.2, 0.1])),
    "scaled": lambda solid: solid.scaled(np.array([0.5, 1.5, 0.8])),
    "mirrored": lambda solid: solid.scaled(np.array([-1.0, 1.0, 1.0])),
    "turned": lambda solid: solid.turned(solids.rotation("x", 0.7) @ solids.rotation("y", 0.4)),
    "tapered": lambda solid: solid.tapered("y", 0.4),
    "twisted": lambda solid: solid.twisted("y", 1.0),
    "bent": lambda solid: solid.bent("x", 0.8),
}


def volume_of_mesh(solid: Solid) -> float:
    """By the divergence theorem, where the triangles are all oriented alike."""
    corners = solid.mesh.vertices[solid.mesh.faces]
    return abs(float(np.einsum("fk,fk->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [name for name in SOLIDS if name != "cuboid"])
def test_the_volume_inside_is_that_of_the_mesh(name: str, change: str):
    solid = CHANGES[change](SOLIDS[name])
    corners = solid.mesh.vertices
    low, high = corners.min(0) - 0.1, corners.max(0) + 0.1
    drawn = RANDOM.uniform(low, high, (20_000, 3))
    inside = solid.inside(drawn).mean() * np.prod(high - low)
    assert inside == pytest.approx(
        volume_of_mesh(solid), rel=0.35 if name == "tubular" else 0.12
    )  # a tube's ends are round


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", SOLIDS)
def test_the_surface_lies_between_a_smaller_and_a_larger_copy(name: str, change: str):
    solid = CHANGES[change](SOLIDS[name])
    area, normal = areas(solid.mesh)
    centre = solid.mesh.vertices[solid.mesh.faces].mean(1)
    step = 0.06
    sides = solid.inside(centre + step * normal), solid.inside(centre - step * normal)
    whole = area > 1e-4
    assert (sides[0] ^ sides[1])[whole].mean() > 0.8  # a step one way is inside, the other way outside
    assert whole.any()


def test_a_sheet_has_no_inside():
    assert not solids.sheet(np.zeros((4, 4))).inside(RANDOM.uniform(-1, 1, (100, 3))).any()


def test_a_frame_is_inside_along_its_bars_only():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    bars = solids.frame(corners, [(0, 1), (0, 2)], 0.1)
    probes = np.array([[0.5, 0.05, 0], [0.05, 0.5, 0], [0.5, 0.5, 0]])
    assert bars.inside(probes).tolist() == [True, True, False]


@pytest.mark.parametrize("angle", [-1.3, -0.4, 0.0, 0.9])
@pytest.mark.parametrize("axis", "xyz")
def test_bending_and_tapering_are_undone_by_their_inverses(axis: str, angle: float):
    points = RANDOM.uniform(-0.9, 0.9, (200, 3))
    assert deform.unbend(deform.bend(points, axis, angle), axis, angle) == pytest.approx(points, abs=1e-9)
    assert deform.untaper(deform.taper(points, axis, angle / 2), axis, angle / 2) == pytest.approx(points, abs=1e-9)


def test_onto_takes_up_to_any_direction_and_is_a_rotation():
    directions = RANDOM.standard_normal((50, 3))
    for direction in [*(directions / np.linalg.norm(directions, axis=1)[:, None]), np.array([0.0, -1.0, 0.0])]:
        matrix = solids.onto(direction)
        assert matrix @ [0, 1, 0] == pytest.approx(direction, abs=1e-9)
        assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.linalg.det(matrix) == pytest.approx(1)

"""Files as people of this field have them, each built after a public report: read right, or refused by name.

They lie beside the real data: `JEPA3D_REAL_DATA/../cases/files` has inputs, and in expected.json what is in them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jepa3d.formats import clouds, meshes
from jepa3d.problem import Problem

REAL = os.environ.get("JEPA3D_REAL_DATA")
CASES = Path(REAL).parent / "cases" / "files" if REAL else None
EXPECTED: dict[str, Any] = {}
if CASES and (CASES / "expected.json").is_file():
    EXPECTED = json.loads((CASES / "expected.json").read_text(encoding="utf-8"))
needs_cases = pytest.mark.skipif(not EXPECTED, reason="no cases/files beside JEPA3D_REAL_DATA")


def normalised(points: NDArray[Any]) -> NDArray[np.float64]:
    moved = points - points.mean(0)
    return np.asarray(moved / np.linalg.norm(moved, axis=1).max())


def areas(triangles: NDArray[Any]) -> NDArray[np.float64]:
    return 0.5 * np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)


def nearest(point: NDArray[Any], triangles: NDArray[Any]) -> float:
    """The distance of a point to the nearest of some triangles: to its feet in their planes or on their edges."""
    best = np.inf
    for a, b, c in triangles:
        normal = np.cross(b - a, c - a)
        if not (size := normal @ normal):
            continue
        foot = point - ((point - a) @ normal) / size * normal
        inside = all(np.cross(q - p, foot - p) @ normal >= -1e-9 * size for p, q in ((a, b), (b, c), (c, a)))
        best = min(best, float(np.linalg.norm(point - foot))) if inside else best
        for p, q in ((a, b), (b, c), (c, a)):
            along = np.clip((point - p) @ (q - p) / max((q - p) @ (q - p), 1e-300), 0, 1)
            best = min(best, float(np.linalg.norm(point - p - along * (q - p))))
    return best


def check_refusal(problem: Problem, want: str, name: str) -> None:
    assert want != "read", str(problem)
    assert name in problem.what
    assert problem.why
    assert problem.mend


@needs_cases
@pytest.mark.parametrize("name", sorted(EXPECTED.get("clouds", {})))
def test_a_cloud_of_the_field_is_read_right_or_refused(name: str) -> None:
    assert CASES is not None
    want = EXPECTED["clouds"][name]
    try:
        found = clouds.read(CASES / "clouds" / name).points
    except Problem as problem:
        check_refusal(problem, want["want"], name)
        return
    assert want["want"] != "refuse"
    np.testing.assert_allclose(normalised(found.astype(float)), normalised(np.array(want["points"])), atol=2e-5)


@needs_cases
@pytest.mark.parametrize("name", sorted(EXPECTED.get("meshes", {})))
def test_a_mesh_of_the_field_is_read_right_or_refused(name: str) -> None:
    assert CASES is not None
    want = EXPECTED["meshes"][name]
    try:
        found = clouds.read(CASES / "meshes" / name)
    except Problem as problem:
        check_refusal(problem, want["want"], name)
        return
    assert want["want"] != "refuse"
    assert found.faces is not None
    pieces = [np.array(piece) for piece in want["pieces"]]
    every = np.concatenate(pieces)
    assert areas(found.points[found.faces]).sum() == pytest.approx(areas(every).sum(), rel=1e-5)
    points = meshes.sample(meshes.Mesh(found.points, found.faces), 128, seed=3)
    reach = np.abs(every - every.reshape(-1, 3).mean(0)).max()
    assert max(nearest(point, every) for point in points) < max(1e-5 * reach, 1.3e-7 * np.abs(every).max())
    share = np.array([areas(piece).sum() for piece in pieces]) / areas(every).sum()
    closest = np.array([[nearest(point, piece) for piece in pieces] for point in points]).argmin(1)
    drawn = np.bincount(closest, minlength=len(pieces)) / len(points)
    assert (np.abs(drawn - share) <= 5 * np.sqrt(share * (1 - share) / len(points)) + 1e-9).all()

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

from jepa3d.formats import clouds
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

"""Turning a cloud so that y is up, whichever axis was."""

from __future__ import annotations

from typing import Literal

Up = Literal["x", "y", "z"]
TO_Y: dict[str, tuple[tuple[int, int], ...]] = {  # per new axis: (old axis, sign); proper rotations
    "x": ((1, -1), (0, 1), (2, 1)),
    "y": ((0, 1), (1, 1), (2, 1)),
    "z": ((0, 1), (2, 1), (1, -1)),
}

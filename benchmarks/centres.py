"""How many patch centres and neighbours stay where FPS and KNN are computed after an augmentation instead of before.

python benchmarks/centres.py results/canonical/generic.h5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np

from jepa3d.ops.geometry import fps_numba, knn_numba

SHAPES, POINTS, PATCHES, SIZE = 256, 1024, 64, 32


def kept(before: np.ndarray, after: np.ndarray) -> float:
    """The mean share of each row of `before` that is in the same row of `after`."""
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(before, after, strict=True)]))


def members(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The nearest points of each centre, one row each."""
    at = np.take_along_axis(points, centre[..., None].astype(np.int64), 1)
    return knn_numba(points, at, SIZE).reshape(-1, SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("canonical", type=Path)
    with h5py.File(parser.parse_args().canonical) as file:
        points = file["points"][:SHAPES, :POINTS].astype(np.float32)
    random = np.random.default_rng(0)
    noise = np.clip(random.normal(0, 0.01, points.shape), -0.02, 0.02)
    changed = {
        "scale per axis, 2/3 to 3/2": points * random.uniform(2 / 3, 3 / 2, (len(points), 1, 3)),
        "jitter 0.01, clipped at 0.02": points + noise,
    }
    centre = fps_numba(points, PATCHES)
    for name, other in changed.items():
        other = other.astype(np.float32)
        centres = kept(centre, fps_numba(other, PATCHES))
        neighbours = kept(members(points, centre), members(other, centre))
        print(f"{name}: {centres:.0%} of the centres stay, {neighbours:.0%} of the neighbours of one centre")


if __name__ == "__main__":
    main()

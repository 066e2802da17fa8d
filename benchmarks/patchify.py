"""FPS + KNN, 1024 points -> 64 patches of 32: ours against the batched torch version that the peers use, one core.

python benchmarks/patchify.py [--shapes 512] [--out FILE]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JEPA3D_THREADS", "1")

import torch
from common import arguments, rounds, show

from jepa3d.ops.geometry import farthest_point_sample, gather, knn


def naive(points: torch.Tensor) -> torch.Tensor:
    """FPS as a loop over whole tensors, KNN as cdist + topk: how it is written where no extension is built."""
    batch, total, _ = points.shape
    chosen = torch.zeros(batch, 64, dtype=torch.long)
    nearest = torch.full((batch, total), 1e10)
    last = torch.zeros(batch, dtype=torch.long)
    rows = torch.arange(batch)
    for step in range(64):
        chosen[:, step] = last
        distance = ((points - points[rows, last][:, None]) ** 2).sum(-1)
        nearest = torch.minimum(nearest, distance)
        last = nearest.argmax(-1)
    centres = points[rows[:, None], chosen]
    return torch.cdist(centres, points).topk(32, largest=False).indices


def ours(points: torch.Tensor) -> torch.Tensor:
    centre = farthest_point_sample(points, 64)
    return knn(points, gather(points, centre), 32)


def main() -> None:
    options = arguments(__doc__ or "", shapes=(512, "shapes of 1024 points"), rounds=(5, "interleaved rounds"))
    torch.set_num_threads(1)
    points = torch.randn(options.shapes, 1024, 3, generator=torch.Generator().manual_seed(0))
    seconds = rounds({"naive batched torch": lambda: naive(points), "jepa3d": lambda: ours(points)}, options.rounds)
    base = seconds["naive batched torch"]
    table = [
        [name, options.shapes / cost, base / cost, 51_200 * cost / options.shapes] for name, cost in seconds.items()
    ]
    columns = ["FPS + KNN", "shapes per CPU-second", "ratio", "CPU-seconds for 51,200"]
    show("FPS + KNN, 1024 -> 64 x 32, one core", columns, table, options.out)


if __name__ == "__main__":
    main()

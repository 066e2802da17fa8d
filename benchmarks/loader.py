"""Batches of 128 (points, indices): from RAM, and streamed from disk through small windows.

python benchmarks/loader.py [--shapes 20000] [--out FILE]
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from common import arguments, show

from jepa3d.params import Execution, Fit
from jepa3d.results import store
from jepa3d.train.batches import InMemory, Lanes, Streamed, Subset, open_training

BATCH = 128
FIT = Fit(steps=1, batch=BATCH)
LANES = Lanes.of(BATCH)._replace(window=2)  # so that the set is many times what is in memory


def forge(folder: Path, shapes: int) -> Subset:
    """A data set of 1024 points and 64 x 32 patches, written in blocks."""
    random = np.random.default_rng(0)
    canonical, patches = folder / "canonical.h5", folder / "patches.h5"
    points = random.standard_normal((1000, 1024, 3)).astype(np.float32)
    neighbour = random.integers(0, 1024, (1000, 64, 32)).astype(np.uint16)
    with store.create_h5(canonical, {}) as data, store.create_h5(patches, {}) as cache:
        data.create_dataset("points", (shapes, 1024, 3), np.float32)
        data.create_dataset("label", data=np.zeros(shapes, np.int64))
        cache.create_dataset("centre", data=np.tile(np.arange(64, dtype=np.uint16), (shapes, 1)))
        cache.create_dataset("neighbour", (shapes, 64, 32), np.uint16)
        for start in range(0, shapes, 1000):
            stop = min(start + 1000, shapes)
            data["points"][start:stop] = points[: stop - start]
            cache["neighbour"][start:stop] = neighbour[: stop - start]
    return Subset(canonical, patches, np.arange(shapes))


def epoch(source: InMemory | Streamed) -> tuple[float, float]:
    """Shapes per CPU-second and per second of one shuffled epoch."""
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, len(source), BATCH):
        source.rows(source.members(0, start, min(start + BATCH, len(source)))[1])
    return len(source) / (time.process_time() - cpu), len(source) / (time.perf_counter() - wall)


def peak(start: bool = False) -> float:
    """The most memory in MB that this process has held since the last `start` (Linux)."""
    if start:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(subset: Subset, stream: bool) -> tuple[float, float, float]:
    """In a process of its own: the rates of an epoch, and the MB of memory that it added."""
    before = peak(start=True)
    source = Streamed([subset], LANES) if stream else open_training([subset], FIT, Execution(memory_gb=1e3), "fit")
    if isinstance(source, InMemory):
        epoch(source)
    return *epoch(source), peak() - before


def main() -> None:
    options = arguments(__doc__ or "", shapes=(20_000, "shapes"))
    rows = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, max_tasks_per_child=1) as pool:
        subset = forge(Path(folder), options.shapes)
        size = sum(path.stat().st_size for path in (subset.canonical, subset.patches)) / 1e6
        for name, stream in (("in RAM", False), ("streamed", True)):
            rows.append([name, size, *pool.submit(measure, subset, stream).result()])
    columns = ["source", "set in MB", "shapes per CPU-second", "shapes per second", "memory added in MB"]
    show(f"Batches of {BATCH}; {LANES.number} lanes with windows of {LANES.window} blocks", columns, rows, options.out)


if __name__ == "__main__":
    main()

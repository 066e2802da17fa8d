"""Several ranks that stream one sharded set: memory of each, what each reads, and whether an epoch is exact.

python benchmarks/shards.py [--shapes 40000] [--many 10000000] [--ranks 4] [--window 1] [--out FILE]

The first sets are written, 16 KB a shape. The last is as large as the largest collections of shapes; its files are
holes, which HDF5 reads as zeros without touching the disk, so it says nothing about rates, but all about memory.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
from common import arguments, show
from loader import peak

from jepa3d.results import store
from jepa3d.train.batches import Lanes, Streamed, Subset

BATCH, SHARDS, POINTS, PATCHES, SIZE = 1024, 16, 1024, 64, 32
READ = 200_000  # shapes of the largest set that are read


def forge(folder: Path, shapes: int, written: bool) -> Subset:
    """A set whose patches are in shards; `label` counts its shapes."""
    canonical, patches = folder / f"{shapes}.h5", folder / f"{shapes}.patches.h5"
    random = np.random.default_rng(0)
    with store.create_h5(canonical, {}) as data:
        data.create_dataset("label", data=np.arange(shapes))
        fill(data.create_dataset("points", (shapes, POINTS, 3), np.float32), random, written)
    shards = []
    for number in range(SHARDS):
        shards.append(folder / f"{shapes}.shards" / f"{number}.h5")
        count = shapes * (number + 1) // SHARDS - shapes * number // SHARDS
        with store.create_h5(shards[-1], {}) as part:
            fill(part.create_dataset("centre", (count, PATCHES), np.uint16), random, written)
            fill(part.create_dataset("neighbour", (count, PATCHES, SIZE), np.uint16), random, written)
    store.join_h5(patches, shards, {})
    return Subset(canonical, patches, np.arange(shapes))


def fill(data: h5py.Dataset, random: np.random.Generator, written: bool) -> None:
    block = random.integers(0, POINTS, (500, *data.shape[1:])).astype(data.dtype)
    for start in range(0, len(data) if written else 0, len(block)):
        data[start : start + len(block)] = block[: len(data) - start]


def read(subset: Subset, lanes: Lanes, rank: int, ranks: int) -> tuple[float, float, int]:
    """In a process of its own: MB added, shapes a CPU-second, and how many shapes were read from the files."""
    before = peak(start=True)
    source = Streamed([subset], lanes)
    counted = 0
    reader, plainly = source.readers[0], source.readers[0].read

    def counting(start: int, stop: int):
        nonlocal counted
        counted += stop - start
        return plainly(start, stop)

    reader.read = counting  # type: ignore[method-assign]
    share, given = BATCH // ranks, 0
    begin = time.process_time()
    for start in range(0, min(len(source), READ) // BATCH * BATCH, BATCH):
        _, index = source.members(0, start + rank * share, start + (rank + 1) * share)
        assert (source.rows(index).label == index).all()
        given += len(index)
    return peak() - before, given / (time.process_time() - begin), counted


def covered(subset: Subset, lanes: Lanes, ranks: int) -> bool:
    """Whether the ranks together are given every shape of the second epoch exactly once."""
    count, share = len(subset.rows), BATCH // ranks
    seen = np.zeros(count, np.uint8)
    for rank in range(ranks):
        source = Streamed([subset], lanes)
        for start in range(count // BATCH * BATCH, 2 * count, BATCH):
            epochs, index = source.members(0, start + rank * share, start + (rank + 1) * share)
            np.add.at(seen, index[epochs == 1], 1)
    return bool((seen == 1).all())


def main() -> None:
    options = arguments(
        __doc__ or "",
        shapes=(40_000, "shapes of the larger written set; the smaller has a quarter"),
        many=(10_000_000, "shapes of the set that is not written"),
        ranks=(4, "ranks"),
        window=(1, "blocks of 64 shapes that a lane mixes; a training has Lanes.of(batch).window"),
    )
    lanes = Lanes.of(BATCH)._replace(window=options.window)
    rows = []
    sets = [(options.shapes // 4, True), (options.shapes, True), (options.many, False)]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, max_tasks_per_child=1) as pool:
        for shapes, written in sets:
            subset = forge(Path(folder), shapes, written)
            size = shapes * (POINTS * 12 + PATCHES * 2 + PATCHES * SIZE * 2 + 8) / 1e6
            for ranks in (1, options.ranks) if written else (options.ranks,):
                found = [pool.submit(read, subset, lanes, rank, ranks).result() for rank in range(ranks)]
                memory, rate, counted = zip(*found, strict=True)
                exact = pool.submit(covered, subset, lanes, ranks).result()
                of_all = [f"{100 * count / min(shapes, READ):.0f}" for count in counted]
                rows.append([shapes, size, ranks, max(memory), min(rate) if written else "-", "/".join(of_all), exact])
    columns = ["shapes", "set in MB", "ranks", "MB added, most of a rank", "shapes per CPU-second, least of a rank"]
    columns += ["% read by each rank", "epoch exact"]
    show(f"{SHARDS} shards, {lanes.number} lanes, windows of {lanes.window} blocks", columns, rows, options.out)


if __name__ == "__main__":
    main()

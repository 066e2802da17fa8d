"""How fast `convert` is beside plain `np.load`, and how much memory it takes.

    python benchmarks/convert.py [--shapes 2000] [--points 8192] [--cached] [--out FILE.json]

Forges ShapeNet-55 with fewer shapes (`.npy` files of float32 [points, 3], and the two lists), reads it with plain
`np.load` on the same cores (the faster of one process a core and one thread a core), then converts it. Each reads the
files from the disk and writes anew, as a first conversion does, because the kernel is told to forget them before; with
`--cached` each finds them in its page cache, and what is compared is only what is computed. `written` is what the
result costs at the least: its bytes, flushed; `hashed` is what its record costs (SHA-256). CPU seconds do not count
what other programs do to the clock, and not what the disk does; those of worker processes are not seen, so np.load is
compared in threads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jepa3d.datasets import shapenet55
from jepa3d.layout import Layout
from jepa3d.parallel import workers
from jepa3d.results import store
from jepa3d.stages.convert import convert


def forge(root: Path, shapes: int, points: int) -> list[Path]:
    """Four shapes in five are for training, as in ShapeNet-55; classes come in turn."""
    base = np.random.default_rng(0).normal(size=(points, 3)).astype(np.float32)
    synsets = list(shapenet55.LABELS)
    clouds, lists = root / shapenet55.CLOUDS, root / "ShapeNet-55"
    clouds.mkdir(parents=True)
    lists.mkdir()
    named: dict[str, list[Path]] = {"train": [], "test": []}
    for number in range(shapes):
        path = clouds / f"{synsets[number // 5 % len(synsets)]}-{number:032x}.npy"
        np.save(path, base + np.float32(number))
        named["test" if number % 5 == 0 else "train"].append(path)
    for split, paths in named.items():
        (lists / f"{split}.txt").write_text("".join(f"{path.name}\n" for path in paths), encoding="utf-8")
    return [path for paths in named.values() for path in paths]


def load_all(paths: list[Path]) -> None:
    for path in paths:
        np.load(path)


def hashed(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def timed(work: Callable[..., object], *arguments: Any, **settings: Any) -> tuple[float, float]:
    """Seconds by the clock, unless the work says them itself, and CPU seconds."""
    cpu, clock = time.process_time(), time.perf_counter()
    said = work(*arguments, **settings)
    return said if isinstance(said, float) else time.perf_counter() - clock, time.process_time() - cpu


def forget(paths: list[Path]) -> None:
    """Take files out of the page cache. What was not on the disk yet stays."""
    os.sync()
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def plain(paths: list[Path], pool: Callable[..., Any]) -> float:
    """Seconds of plain `np.load` over all files, the pool already running."""
    count = workers()
    pieces = [paths[start::count] for start in range(count)]
    with pool(count) as running:
        list(running.map(load_all, [piece[:1] for piece in pieces]))
        start = time.perf_counter()
        list(running.map(load_all, pieces))
        return time.perf_counter() - start


def converted(root: Path, results: Path, **settings: Any) -> float:
    config = shapenet55.Config(root=str(root), **settings)
    shutil.rmtree(results, ignore_errors=True)
    layout = Layout(results)
    store.write_json(layout.source("data"), {"how": "forged"})
    start = time.perf_counter()
    convert(SimpleNamespace(dataset=lambda name: config), layout, "data")  # type: ignore[arg-type]
    return time.perf_counter() - start


def written(path: Path, size: int) -> float:
    block = b"\1" * (1 << 22)
    start = time.perf_counter()
    with store.replacing(path) as temporary, temporary.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    return time.perf_counter() - start


def processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("forkserver"))


def measure(shapes: int, points: int, repeats: int, cached: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="jepa3d-convert-") as name:
        here = Path(name)
        paths = forge(here / "raw", shapes, points)
        load_all(paths)
        raw = here / "raw"
        trials: dict[str, Callable[[], tuple[float, float]]] = {
            "np.load, processes": lambda: timed(plain, paths, processes),
            "np.load, threads": lambda: timed(plain, paths, ThreadPoolExecutor),
            "written": lambda: timed(written, here / "bytes", shapes * points * 12),
            "hashed": lambda: timed(hashed, here / "bytes"),
            "convert": lambda: timed(converted, raw, here / "a"),
            "convert, as stored": lambda: timed(converted, raw, here / "b", normalise="none"),
            "convert, 2048 points": lambda: timed(converted, raw, here / "c", points=min(2048, points)),
        }
        rows: dict[str, tuple[float, float]] = {}
        for _ in range(repeats):
            for key, trial in trials.items():
                if not cached:
                    forget(paths)
                found = trial()
                rows[key] = tuple(map(min, found, rows.get(key, found)))  # type: ignore[assignment]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    about = {"shapes": shapes, "points": points, "cached": cached, "workers": workers()}
    return {**about, "seconds": rows, "peak_mib": round(peak)}


def show(found: dict[str, Any]) -> None:
    seconds = found["seconds"]
    best = min(seconds["np.load, processes"][0], seconds["np.load, threads"][0])
    base = seconds["np.load, threads"][1]
    fixed = seconds["written"][1] + seconds["hashed"][1]
    table = Table("", "s", "files/s", "speed of np.load = 1", "CPU s", "np.load = 1", "without writing and hashing")
    for name, (clock, cpu) in seconds.items():
        shown = [f"{clock:.2f}", f"{found['shapes'] / clock:.0f}", f"{best / clock:.2f}"]
        shown += ["", ""] if "processes" in name else [f"{cpu:.2f}", f"{base / cpu:.2f}"]
        table.add_row(name, *shown, f"{base / (cpu - fixed):.2f}" if name in ("convert", "convert, as stored") else "")
    Console().print(table)
    Console().print(f"{found['workers']} workers, peak memory {found['peak_mib']} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=2000)
    parser.add_argument("--points", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = measure(given.shapes, given.points, given.repeats, given.cached)
    show(found)
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

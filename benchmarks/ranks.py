"""Two Gloo ranks with a thread each against one rank with two threads, on the same two cores: steps of pretraining.

python benchmarks/ranks.py [--batch 16] [--width 384] [--depth 12] [--steps 4] [--rounds 3] [--out FILE]

Both train the same global batch by `fit.run`, gradients averaged, BatchNorm synchronised. The two are measured in
turns, each in processes of its own, and the fastest round of each counts: the rest of the machine should be idle.
CPU seconds are those of all processes of a training; threads that wait for each other in OpenMP count as busy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, show

WARM_UP = 1
POINTS, PATCHES, SIZE = 1024, 64, 32


def train(settings: dict[str, Any]) -> dict[str, float]:
    """Seconds and CPU seconds of `steps` steps after the first, in this rank."""
    import numpy as np
    import torch

    from jepa3d.encoders import transformer
    from jepa3d.objectives import jepa
    from jepa3d.params import Augment, Execution, Fit
    from jepa3d.train import distributed, loop
    from jepa3d.train.batches import Arrays, Batching, InMemory, Stream
    from jepa3d.train.objective import Setup

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    count = settings["batch"]
    points = random.normal(size=(count, POINTS, 3)).astype(np.float32)
    centre = random.integers(0, POINTS, (count, PATCHES)).astype(np.uint16)
    neighbour = random.integers(0, POINTS, (count, PATCHES, SIZE)).astype(np.uint16)
    source = InMemory(Arrays(points, centre, neighbour, np.zeros(count, np.int64)))
    length = Fit(steps=WARM_UP + settings["steps"], batch=count)
    how = Execution(checkpoint_every=10**6, log_every=10**6)
    model = transformer.Config(width=settings["width"], depth=settings["depth"], heads=6)
    marks: list[tuple[float, float]] = []

    class Timed(jepa.Objective):
        def after_step(self, progress: float) -> None:
            super().after_step(progress)
            marks.append((time.perf_counter(), time.process_time()))

    with distributed.joined() as world, tempfile.TemporaryDirectory() as folder:
        stream = Stream(source, Batching(count, Augment()), 1, world=world)
        objective = Timed(jepa.Config(), Setup(model))
        loop.save = lambda *state: None  # the checkpoint at the end is not measured, and large
        loop.run(loop.Training(objective, stream, length, 2, loop.Job(Path(folder), "", "", world, how)))
    (begin, cpu), (end, cpu_end) = marks[WARM_UP - 1], marks[-1]
    return {"seconds": end - begin, "cpu": cpu_end - cpu}


def measure(size: int, settings: dict[str, Any]) -> dict[str, float]:
    """The same of a training on `size` ranks: the slowest rank's seconds, all ranks' CPU seconds."""
    threads = 2 // size
    with tempfile.TemporaryDirectory() as folder:
        common = {"WORLD_SIZE": str(size), "JEPA3D_RENDEZVOUS": f"{folder}/rendezvous", "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--rank", json.dumps(settings | {"threads": threads})]
        running = [
            subprocess.Popen(
                command,
                env=os.environ | common | {"RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for rank in range(size)
        ]
        said = [process.communicate()[0] for process in running]
    found = [json.loads(words.splitlines()[-1]) for words in said]
    return {"seconds": max(one["seconds"] for one in found), "cpu": sum(one["cpu"] for one in found)}


def main() -> None:
    options = arguments(
        __doc__ or "",
        batch=(16, "shapes of all ranks together"),
        width=(384, "of the encoder"),
        depth=(12, "of the encoder"),
        steps=(4, "that are timed"),
        rounds=(3, "of each"),
    )
    settings = {name: getattr(options, name) for name in ("batch", "width", "depth", "steps")}
    best: dict[int, dict[str, float]] = {}
    for _ in range(options.rounds):
        for size in (1, 2):
            found = measure(size, settings)
            best[size] = {key: min(value, best.get(size, found)[key]) for key, value in found.items()}
    shapes = options.batch * options.steps
    rate = {size: shapes / best[size]["seconds"] for size in best}
    names = {1: "1 rank x 2 threads", 2: "2 ranks x 1 thread"}
    rows = [[names[size], rate[size], best[size]["cpu"] / shapes, rate[size] / rate[1]] for size in best]
    title = f"Gloo ranks: JEPA, width {options.width}, depth {options.depth}, batch {options.batch}"
    show(title, ["", "shapes/s", "CPU s a shape", "throughput to one rank"], rows, options.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        print(json.dumps(train(json.loads(sys.argv[2]))))
    else:
        main()

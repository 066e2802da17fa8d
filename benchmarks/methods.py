"""One pretraining step of every method at the document's size, as a ratio to 3D-JEPA's: CPU time, one thread.

python benchmarks/methods.py [--batch 8] [--rounds 3] [--out FILE]

The runs are those of `study: paper`, each with its own encoder, patches and objective, and the first stage that one
reads. Clouds are random and their patches cached, so that FPS and KNN are not timed; neither is what draws the points.
GFLOP are those of `jepa3d.train.compute`, which the report's table shows.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, rounds, show
from numpy.typing import NDArray

from jepa3d import objectives, plugins, project
from jepa3d.ops.geometry import fps_numba, knn_numba
from jepa3d.params import Params, Run, Scheme
from jepa3d.train import compute, first_stage, loop
from jepa3d.train.batches import Arrays, Batching, InMemory, Stream
from jepa3d.train.objective import Base, Setup

PARAMS = Path(__file__).parent.parent / "params.yaml"
FIRST = "jepa_document"


def made(params: Params, run: Run, folder: Path) -> Base:
    """The objective of a run; a first stage that it reads has random weights."""
    plugin: objectives.Plugin[Any] = plugins.find(objectives, run.objective.kind)
    setup = Setup(params.model(run.model), params.patches[run.patches], 2)
    if run.objective.reads is not None:
        other = params.runs[run.objective.reads]
        stage = made(params, other, folder)
        settings = plugins.find(objectives, other.objective.kind).Config.model_validate(other.objective.options())
        setup = setup._replace(reads=folder / f"{run.objective.reads}.safetensors")
        first_stage.save(setup.reads, stage, settings, setup._replace(reads=None), {})
    return plugin.Objective(plugin.Config.model_validate(run.objective.options()), setup)


def cached(scheme: Scheme, count: int) -> Arrays:
    """Random clouds with the patches of every level."""
    points = np.random.default_rng(0).standard_normal((count, scheme.points, 3)).astype(np.float32)
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    cloud, indices = points, list[NDArray[np.uint16]]()
    for level in scheme.levels:
        centre = fps_numba(cloud, level.num)
        centres = np.take_along_axis(cloud, centre[:, :, None], 1)
        indices += [centre.astype(np.uint16), knn_numba(cloud, centres, level.size).astype(np.uint16)]
        cloud = centres
    return Arrays(points, indices[0], indices[1], np.zeros(count, np.int64), tuple(indices[2:]))


def stepping(params: Params, run: Run, objective: Base, batch: int) -> Callable[[], None]:
    """A training step as a call."""
    objective.train()
    optimiser = loop.adamw(objective, run.fit)
    source = InMemory(cached(params.patches[run.patches], 8 * batch))
    stream = Stream(source, Batching(batch, run.augment), 0, torch.device("cpu"))
    number = 0

    def step() -> None:
        nonlocal number
        optimiser.zero_grad(set_to_none=True)
        for micro_batch in stream.at(number):
            objective(micro_batch, 0.5).total.backward()
        optimiser.step()
        objective.after_step(0.5)
        number += 1

    return step


def main() -> None:
    options = arguments(__doc__ or "", batch=(8, "shapes a step"), rounds=(3, "interleaved rounds"))
    torch.set_num_threads(1)
    params = project.load(PARAMS, "paper")
    names = dict.fromkeys(
        stage
        for name in params.chosen.run_names()
        if params.runs[name].fit.steps != 0
        for stage in (*params.runs[name].stages_before, name)
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: params.runs[name] for name in names}
        trained = {name: made(params, run, Path(folder)) for name, run in runs.items()}
        gflop = {name: compute.gflop(trained[name], params.patches[run.patches]) for name, run in runs.items()}
        steps = {name: stepping(params, run, trained[name], options.batch) for name, run in runs.items()}
        seconds = rounds(steps, options.rounds)
    rows = [[name, seconds[name], seconds[name] / seconds[FIRST], gflop[name]] for name in names]
    columns = ["run", "CPU seconds a step", f"of {FIRST}", "GFLOP a shape"]
    show(f"Pretraining step of every method, batch {options.batch}", columns, rows, options.out)


if __name__ == "__main__":
    main()

"""pretrain: canonical clouds + patches -> encoder.safetensors, config.json, curve.jsonl of a run and a seed.

While it trains, its state lives in results/.state/<run>/seed<n>/: Snakemake, which deletes the declared outputs of a
job that failed, knows nothing of it. The three files appear together when the training is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jepa3d import objectives, plugins, pretrained
from jepa3d.layout import Layout
from jepa3d.ops.draws import shape_keys
from jepa3d.params import Params, Run, Scheme, run_slice
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem
from jepa3d.results import resume, store
from jepa3d.seeds import derive
from jepa3d.train import batches, distributed, loop
from jepa3d.train.monitor import Watch, warning
from jepa3d.train.objective import Base


def pretrain(params: Params, layout: Layout, run: str, seed: int) -> None:
    """Train one run with one seed, or go on where it was stopped. Raises fit.Stopped when a signal stops it.

    One of several ranks where the environment says so: the first one alone hashes, monitors, finishes and publishes.
    """
    with distributed.joined() as world:
        _pretrain(params, layout, run, seed, world)
        world.wait()  # a job is over when its first rank has published


def _pretrain(params: Params, layout: Layout, run: str, seed: int, world: distributed.World) -> None:
    entry: Run = params.pick("runs", run)
    model, scheme = params.model(entry.model), params.pick("patches", entry.patches)
    read = dict.fromkeys([*entry.data, *([entry.monitor.probe] if entry.monitor.probe else [])])
    inputs = [path for data in read for path in (layout.canonical(data), layout.patches(entry.patches, data))]
    settings = run_slice(params, run) | {"seed": seed}
    stamp = store.stamp("pretrain", settings, inputs if world.first else [])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    torch.manual_seed(derive(seed, "weights"))  # not of the run: runs with one seed start from the same encoder
    plugin = plugins.find(objectives, entry.objective.kind)
    options = plugin_config(objectives, entry.objective.options(), f"runs.{run}.objective", params.source)
    objective = plugin.Objective(options, model, label_count(layout, entry)).to(device)
    execution = params.execution.of_run(run)
    source = batches.open_training(training_parts(layout, entry), entry.fit, execution, f"runs.{run}.fit")

    def stream_of(rank: int, size: int) -> batches.Stream:
        parts = entry.fit.accumulate
        return batches.Stream(
            source,
            entry.fit.batch,
            derive(seed, "stream"),
            entry.augment,
            scheme.live_levels,
            device,
            parts,
            rank,
            size,
        )

    watch = watched(layout, entry, seed, device) if world.first else None
    training = loop.Training(
        objective=objective,
        stream=stream_of(world.rank, world.size),
        fit=entry.fit,
        seed=derive(seed, "fit"),
        state=layout.state(run, seed),
        label=f"{run} seed {seed}",
        fingerprint=_fingerprint(settings, stamp["inputs"]),
        watch=None if watch is None else lambda: _look(watch, objective),
        watch_every=execution.monitor_every,
        execution=execution,
        board=layout.board(run, seed),
        world=world,
    )
    begin = time.monotonic()
    loop.run(training)
    if world.first:
        objective.finish(stream_of(0, 1).batches())
        seconds = time.monotonic() - begin
        publish(layout, run, seed, objective, scheme, stamp, training.curve, seconds, world.size)


def training_parts(layout: Layout, entry: Run) -> list[batches.Part]:
    """The train split of every data set of a run; a test shape is never seen, not even without its label."""
    parts = []
    for data in entry.data:
        canonical = layout.canonical(data)
        rows = batches.split_rows(canonical, "train")
        parts.append(batches.Part(canonical, layout.patches(entry.patches, data), rows))
    parts = [part for part in parts if len(part.rows)]
    if not parts:
        raise Problem(
            f"{', '.join(entry.data)}: no shapes to train on",
            "training uses the train split only, and it is empty",
            "give the run data with a train split",
        )
    return parts


def label_count(layout: Layout, entry: Run) -> int:
    """How many classes the run's data has; 0 where it has no labels or mixes data sets, whose labels differ."""
    return len(batches.class_names(layout.canonical(entry.data[0]))) if len(entry.data) == 1 else 0


def watched(layout: Layout, entry: Run, seed: int, device: torch.device) -> Watch:
    """The shapes that the collapse monitor looks at: a fixed draw from the train split of the probe's data."""
    name = entry.monitor.probe or entry.data[0]
    canonical, patches = layout.canonical(name), layout.patches(entry.patches, name)
    rows = batches.split_rows(canonical, "train")
    if len(rows) < 2:
        raise Problem(
            f"{name}: {len(rows)} train shapes are too few for the collapse monitor",
            "it compares shapes with each other, and looks at the train split only",
            "give the run more shapes, or name another data set as monitor.probe",
        )
    count = min(entry.monitor.shapes, len(rows))
    chosen = np.sort(np.random.default_rng(derive(seed, "watch")).choice(rows, count, replace=False))
    source = batches.open_shapes([batches.Part(canonical, patches, chosen)], float("inf"))
    parts = []
    for index in np.array_split(np.arange(count), max(1, count // 128)):
        keys = shape_keys(seed, torch.zeros(len(index), dtype=torch.long), torch.from_numpy(index))
        parts.append(batches.to_device(source.rows(index), device, keys.to(device)))
    return Watch(parts)


def publish(
    layout: Layout,
    run: str,
    seed: int,
    objective: Base,
    scheme: Scheme,
    stamp: dict[str, Any],
    curve: Path,
    seconds: float,
    size: int,
) -> None:
    """Write the results, the encoder last, and drop the resume state, which has done its work.

    A submitted job leaves its state to its launcher, which still reads the log there: should the results be taken
    away before anyone has seen the end, as Snakemake does with those of a command that was killed, they are published
    again from it.
    """
    rows = store.read_jsonl(curve) if curve.exists() else []
    cost = {"seconds": round(seconds, 1), "threads": torch.get_num_threads(), "ranks": size, "device": _device_name()}
    store.write_jsonl(layout.curve(run, seed), [*rows, {"step": rows[-1]["step"] if rows else 0, "cost": cost}])
    store.write_json(layout.run_config(run, seed), {"provenance": stamp, **stamp["settings"]})
    pretrained.save(layout.encoder(run, seed), objective.encoders(), scheme, stamp)
    if "JEPA3D_JOB" not in os.environ:
        resume.drop(layout.state(run, seed))


def _look(watch: Watch, objective: Base) -> dict[str, float]:
    found = watch.look(objective.encoders())
    if (words := warning(found)) is not None:
        print(f"warning: {words}", file=sys.stderr)
    return found


def _fingerprint(settings: dict[str, Any], inputs: dict[str, str]) -> str:
    text = json.dumps([settings, sorted(inputs.values())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from jepa3d import objectives, plugins, pretrained
from jepa3d.graph import Graph
from jepa3d.layout import Layout
from jepa3d.loggers import About
from jepa3d.ops.draws import shape_keys
from jepa3d.params import Params, Run, Scheme
from jepa3d.params.validation import plugin_config
from jepa3d.problem import Problem
from jepa3d.results import opened, resume, store
from jepa3d.seeds import derive
from jepa3d.train import batches, distributed, first_stage, loop
from jepa3d.train.monitor import Watch, warning
from jepa3d.train.objective import Base, Setup

MEASURED = 256  # train shapes of each data set that tell whether clouds were normalised


class Asked(NamedTuple):
    """One seed of one run."""

    params: Params
    layout: Layout
    run: str
    seed: int

    @property
    def entry(self) -> Run:
        entry: Run = self.params.pick("runs", self.run)
        return entry

    @property
    def scheme(self) -> Scheme:
        scheme: Scheme = self.params.pick("patches", self.entry.patches)
        return scheme

    @property
    def plugin(self) -> objectives.Plugin[Any]:
        """Of the objective."""
        plugin: objectives.Plugin[Any] = plugins.find(objectives, self.entry.objective.kind)
        return plugin

    @property
    def options(self) -> Any:
        """The objective's own Config."""
        where = f"runs.{self.run}.objective"
        return plugin_config(objectives, self.entry.objective.options(), where, self.params.source)

    @property
    def init(self) -> Path | None:
        """The encoder that the training begins with; None: it is drawn."""
        run = self.entry.init
        return self.entry.init_file or (None if run is None else self.layout.encoder(run, self.seed))

    def setup(self, world: distributed.World) -> Setup:
        entry, reads = self.entry, self.entry.objective.reads
        return Setup(
            self.params.model(entry.model),
            self.scheme,
            label_count(self.layout, entry),
            world,
            None if reads is None else self.layout.encoder(reads, self.seed),
        )


def pretrain(params: Params, layout: Layout, run: str, seed: int) -> None:
    """Train one run with one seed, or go on where it was stopped. Raises fit.Stopped when a signal stops it.

    One of several ranks where the environment says so: the first one alone hashes, monitors, finishes and publishes.
    """
    with distributed.joined() as world:
        _pretrain(Asked(params, layout, run, seed), world)
        world.barrier()  # a job is over when its first rank has published


def _pretrain(asked: Asked, world: distributed.World) -> None:
    layout, entry, seed = asked.layout, asked.entry, asked.seed
    made = Graph(asked.params, layout).job("pretrain", asked.run, seed)
    stamp = store.stamp(made.verb, made.settings, made.reads if world.first else ())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setup = asked.setup(world)
    objective = _objective(asked, setup).to(device)
    execution = asked.params.execution.of_run(asked.run)
    source = batches.open_training(
        subsets(layout, entry, asked.scheme.resampled), entry.fit, execution, f"runs.{asked.run}.fit"
    )
    batching = batches.Batching.of(entry.fit, entry.augment, asked.scheme)
    stream = batches.Stream(source, batching, derive(seed, "stream"), device, world)
    job = loop.Job(
        layout.state(asked.run, seed),
        _fingerprint(stamp["settings"], stamp["inputs"]),
        f"{asked.run} seed {seed}",
        world,
        execution,
        About(layout.results, asked.run, seed, stamp["settings"]),
    )
    training = loop.Training(objective, stream, entry.fit, derive(seed, "fit"), job)
    if world.first and asked.plugin.ENCODER:
        watch = watched(layout, entry, seed, device)
        training.watch = loop.Watch(lambda: _look(watch, objective), execution.monitor_every)
    begin = time.monotonic()
    loop.run(training)
    if world.first:
        objective.finish(batches.Stream(source, batching, derive(seed, "stream"), device).batches())
        cost = {"seconds": round(time.monotonic() - begin, 1), "threads": torch.get_num_threads(), "ranks": world.size}
        publish(asked, objective, setup, stamp, {**cost, "device": _device_name()})


def _objective(asked: Asked, setup: Setup) -> Base:
    """The run's objective with its first weights."""
    torch.manual_seed(derive(asked.seed, "weights"))  # not of the run: runs with one seed start from the same encoder
    made: Base = asked.plugin.Objective(asked.options, setup)
    if (path := asked.init) is not None:
        loaded = pretrained.load(path)
        pretrained.check_shape(path, loaded, setup.model)
        made.begin_with(loaded.module)
    return made


def subsets(layout: Layout, entry: Run, whole: bool = False) -> list[batches.Subset]:
    """The train split of every data set of a run; a test shape is never seen, not even without its label."""
    made = []
    for data in entry.data:
        canonical = layout.canonical(data)
        if len(rows := batches.split_rows(canonical, "train")):
            made.append(batches.Subset(canonical, layout.patches(entry.patches, data), rows, whole))
    if not made:
        raise Problem(
            f"{', '.join(entry.data)}: no shapes to train on",
            "training uses the train split only, and it is empty",
            "give the run data with a train split",
        )
    return made


def preparation(layout: Layout, entry: Run, scheme: Scheme) -> pretrained.Preparation:
    """How a user's clouds become such as the run was trained on: by some train shapes of each data set."""

    def seen() -> Iterator[tuple[NDArray[np.float32], str | None]]:
        for subset in subsets(layout, entry):
            rows = subset.rows[np.unique(np.linspace(0, len(subset.rows) - 1, MEASURED).astype(int))]
            with opened.canonical(subset.canonical) as file:
                said = store.attributes(file).get("config", {}).get("normalise")
                yield np.concatenate([file["points"][int(row)][None] for row in rows]), said

    return pretrained.Preparation.learned(scheme, seen())


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
    source = batches.open_shapes([batches.Subset(canonical, patches, chosen)], float("inf"))
    looked_at = []
    for index in np.array_split(np.arange(count), max(1, count // 128)):
        keys = shape_keys(seed, torch.zeros(len(index), dtype=torch.long), torch.from_numpy(index))
        looked_at.append(batches.to_device(source.rows(index), device, keys.to(device)))
    return Watch(looked_at)


def publish(asked: Asked, objective: Base, setup: Setup, stamp: dict[str, Any], cost: dict[str, Any]) -> None:
    """Write the results, the encoder last, and drop the resume state, which has done its work.

    A submitted job leaves its state to its launcher, which still reads the log there: should the results be taken
    away before anyone has seen the end, as Snakemake does with those of a command that was killed, they are published
    again from it.
    """
    layout, run, seed = asked.layout, asked.run, asked.seed
    curve = layout.state(run, seed) / loop.CURVE
    rows = store.read_jsonl(curve) if curve.exists() else []
    store.write_jsonl(layout.curve(run, seed), [*rows, {"step": rows[-1]["step"] if rows else 0, "cost": cost}], stamp)
    store.write_json(layout.run_config(run, seed), {"provenance": stamp, **stamp["settings"]}, stamp)
    if asked.plugin.ENCODER:
        path, nets, how = (
            layout.encoder(run, seed),
            objective.encoders(),
            preparation(layout, asked.entry, asked.scheme),
        )
        pretrained.save(path, nets, asked.scheme, stamp, how)
    else:
        first_stage.save(layout.encoder(run, seed), objective, asked.options, setup, stamp)
    if "JEPA3D_JOB" not in os.environ:
        resume.drop(layout.state(run, seed))


def _look(watch: Watch, objective: Base) -> dict[str, float]:
    row = watch.look(objective.encoders())
    if (words := warning(row)) is not None:
        print(f"warning: {words}", file=sys.stderr)
    return row


def _fingerprint(settings: dict[str, Any], inputs: dict[str, str]) -> str:
    text = json.dumps([settings, sorted(inputs.values())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"

"""evaluate: features, or an encoder with data -> results/evals/{run}/seed{n}/{eval}.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jepa3d import config, plugins, store
from jepa3d.layout import Layout
from jepa3d.problem import Problem
from jepa3d.tasks import Encoded, Features, Result


class Shapes(NamedTuple):
    """What a data set says of its shapes, as features files and canonical files both store it."""

    label: Any  # int64 [n]
    split: Any  # text [n]
    id: Any  # text [n]
    classes: tuple[str, ...]


def evaluate(params: config.Params, layout: Layout, run: str, name: str, seed: int) -> None:
    """Evaluate one seed of one run by the evaluation `name` of params.yaml, and write the finding."""
    entry: config.Eval = params.pick("evals", name)
    task = plugins.find("tasks", entry.task["kind"])
    settings = config.plugin_config("tasks", entry.task)
    work = {"features": _on_features, "encoder": _on_encoder}[task.NEEDS]
    result, shapes, inputs = work(params, layout, run, name, seed, task, settings)
    test = shapes.split == "test"
    finding = {
        "provenance": store.stamp("evaluate", config.slice_of(entry), inputs),
        "run": run,
        "seed": seed,
        "eval": name,
        "dataset": entry.dataset,
        "task": config.slice_of(settings),
        "protocol": task.protocol(settings),
        "headline": next(iter(result.metrics)),
        "metrics": {key: float(value) for key, value in result.metrics.items()},
        "notes": list(result.notes),
        "predicted": None if result.predicted is None else result.predicted.tolist(),
        "truth": shapes.label[test].tolist(),
        "ids": shapes.id[test].tolist(),
        "classes": list(shapes.classes),
    }
    store.write_json(layout.evaluation(run, seed, name), finding)


def _on_features(
    params: config.Params, layout: Layout, run: str, name: str, seed: int, task: Any, settings: Any
) -> tuple[Result, Shapes, list[Path]]:
    """The context encoder's features and, where the run has them, the EMA encoder's (`_ema` after the names)."""
    path = layout.features(run, seed, params.evals[name].dataset)
    with store.open_h5(path) as file:
        shapes = _shapes(file, path)
        pool = store.attributes(file).get("pool", "max_mean")
        kept = {which: file[which][:] for which in ("context", "target") if which in file}
    train, test = shapes.split == "train", shapes.split == "test"

    def on(which: str) -> Result:
        x, y, source = kept[which], shapes.label, str(path)
        given = Features(x[train], y[train], x[test], y[test], shapes.classes, source, pool)
        found: Result = task.evaluate(given, settings, seed)
        return found

    result = on("context")
    if "target" in kept:
        ema = on("target")
        metrics = result.metrics | {f"{key}_ema": value for key, value in ema.metrics.items()}
        notes = (*result.notes, *(f"EMA encoder: {note}" for note in ema.notes if note not in result.notes))
        result = result._replace(metrics=metrics, notes=notes)
    return result, shapes, [path]


def _on_encoder(
    params: config.Params, layout: Layout, run: str, name: str, seed: int, task: Any, settings: Any
) -> tuple[Result, Shapes, list[Path]]:
    """The encoder itself, for tasks that train on: the patches are the evaluation's own scheme, else the run's."""
    entry: config.Eval = params.evals[name]
    row: config.Run = params.pick("runs", run)
    scheme = entry.patches or row.patches
    given = Encoded(
        encoder=layout.encoder(run, seed),
        canonical=layout.canonical(entry.dataset),
        patches=layout.patches(scheme, entry.dataset),
        scheme=params.pick("patches", scheme),
        model=params.pick("models", row.model),
        run=row,
    )
    with store.open_h5(given.canonical) as file:
        shapes = _shapes(file, given.canonical)
    return task.evaluate(given, settings, seed), shapes, [given.encoder, given.canonical, given.patches]


def _shapes(file: Any, path: Path) -> Shapes:
    missing = [key for key in ("label", "split", "id") if key not in file]
    if missing:
        raise Problem(
            f"{path}: has no '{missing[0]}'", "it is not a file of this package, or an older one", "remake it"
        )
    classes = tuple(store.attributes(file).get("classes", ()))
    return Shapes(np.asarray(file["label"][:], np.int64), store.text(file["split"]), store.text(file["id"]), classes)

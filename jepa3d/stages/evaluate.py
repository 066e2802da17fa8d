"""evaluate: features, or an encoder with data -> results/evals/{run}/seed{n}/{eval}.json."""

from __future__ import annotations

import hashlib
import json
import shutil
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


def evaluate(params: config.Params, layout: Layout, run: str, name: str, seed: int, part: int | None = None) -> None:
    """Evaluate one seed of one run by the evaluation `name` of params.yaml, and write the finding.

    `part` computes one part of an evaluation that consists of several; without it, the parts that are there are
    gathered and the others computed first. Raises fit.Stopped when a signal stops a training.
    """
    entry: config.Eval = params.pick("evals", name)
    task = plugins.find("tasks", entry.task["kind"])
    settings = config.plugin_config("tasks", entry.task)
    if part is not None:
        _check_part(name, task, settings, part)
        path = layout.part(run, seed, name, part)
        _compute_part(path, seed, task, settings, part, *_encoded(params, layout, run, name, seed))
        return
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
        "details": result.details,
        "predicted": None if result.predicted is None else result.predicted.tolist(),
        "truth": shapes.label[test].tolist(),
        "ids": shapes.id[test].tolist(),
        "classes": list(shapes.classes),
    }
    store.write_json(layout.evaluation(run, seed, name), finding)
    shutil.rmtree(layout.evaluation_state(run, seed, name), ignore_errors=True)


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
        x, y, ids, source = kept[which], shapes.label, shapes.id, str(path)
        given = Features(x[train], y[train], x[test], y[test], shapes.classes, source, pool, ids[train], ids[test])
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
    """The encoder itself, for tasks that train on, in one go or from parts."""
    given, stamp = _encoded(params, layout, run, name, seed)
    with store.open_h5(given.canonical) as file:
        shapes = _shapes(file, given.canonical)
    inputs = [given.encoder, given.canonical, given.patches]
    if not hasattr(task, "parts"):
        return task.evaluate(given, settings, seed), shapes, inputs
    results, codes = [], set()
    for number in range(task.parts(settings)):
        path = layout.part(run, seed, name, number)
        if not _is_of(path, stamp):
            _compute_part(path, seed, task, settings, number, given, stamp)
        found = store.read_json(path)
        results.append(Result(found["metrics"], None, tuple(found["notes"]), found["details"]))
        codes.add(found["provenance"]["code"])
    result: Result = task.gather(results, settings)
    if len(codes) > 1:
        mixed = f"its parts were computed by {len(codes)} versions of the code; remove {path.parent} to have one"
        result = result._replace(notes=(*result.notes, mixed))
    return result, shapes, inputs


def _encoded(params: config.Params, layout: Layout, run: str, name: str, seed: int) -> tuple[Encoded, dict[str, Any]]:
    """What a task that trains on gets, and its stamp; the patches are of the evaluation's scheme, else the run's."""
    entry: config.Eval = params.pick("evals", name)
    row: config.Run = params.pick("runs", run)
    scheme = entry.patches or row.patches
    paths = layout.encoder(run, seed), layout.canonical(entry.dataset), layout.patches(scheme, entry.dataset)
    stamp = store.stamp("evaluate", config.slice_of(entry), paths)
    made_of = json.dumps([stamp["settings"], list(stamp["inputs"].values()), seed], sort_keys=True)
    given = Encoded(
        *paths,
        scheme=params.pick("patches", scheme),
        model=params.pick("models", row.model),
        run=row,
        state=layout.evaluation_state(run, seed, name),
        fingerprint=hashlib.sha256(made_of.encode()).hexdigest(),
    )
    return given, stamp


def _check_part(name: str, task: Any, settings: Any, number: int) -> None:
    count = task.parts(settings) if hasattr(task, "parts") else 0
    if number >= count:
        raise Problem(
            f"evals.{name}: has no part {number}",
            f"its parts are 0 to {count - 1}" if count else f"a '{settings.kind}' is computed in one go",
            "leave out --part" if not count else "choose one of them",
        )


def _compute_part(
    path: Path, seed: int, task: Any, settings: Any, number: int, given: Encoded, stamp: dict[str, Any]
) -> None:
    """One part's result, as a file that the evaluation gathers."""
    given = given._replace(state=given.state / f"part{number}")
    result: Result = task.part(given, settings, seed, number)
    found = {
        "provenance": stamp,
        "seed": seed,
        "part": number,
        "metrics": {key: float(value) for key, value in result.metrics.items()},
        "notes": list(result.notes),
        "details": result.details,
    }
    store.write_json(path, found)
    shutil.rmtree(given.state, ignore_errors=True)


def _is_of(path: Path, stamp: dict[str, Any]) -> bool:
    """Whether a part is there and of these very settings and inputs."""
    try:
        found = store.read_json(path)["provenance"]
    except (Problem, KeyError, TypeError):  # absent, or damaged
        return False
    hashes = [list(one["inputs"].values()) for one in (found, stamp)]
    return found["settings"] == stamp["settings"] and hashes[0] == hashes[1]


def _shapes(file: Any, path: Path) -> Shapes:
    missing = [key for key in ("label", "split", "id") if key not in file]
    if missing:
        raise Problem(
            f"{path}: has no '{missing[0]}'", "it is not a file of this package, or an older one", "remake it"
        )
    classes = tuple(store.attributes(file).get("classes", ()))
    return Shapes(np.asarray(file["label"][:], np.int64), store.text(file["split"]), store.text(file["id"]), classes)

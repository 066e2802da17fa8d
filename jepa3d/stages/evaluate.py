"""evaluate: features, or an encoder with data -> results/evals/{run}/seed{n}/{eval}.json."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jepa3d import objectives, plugins, tasks
from jepa3d.graph import Graph, Job
from jepa3d.layout import Layout
from jepa3d.loggers import About
from jepa3d.params import Eval, Params, Run, slice_of
from jepa3d.params.load import check_pair
from jepa3d.params.seen import check_few_labels
from jepa3d.problem import Problem
from jepa3d.results import finding, opened, resume, store
from jepa3d.results.finding import FORMAT, Fold
from jepa3d.tasks import Encoded, Features, Result

if TYPE_CHECKING:
    from jepa3d.train.distributed import World


class Asked(NamedTuple):
    """One evaluation of one seed of one run."""

    params: Params
    layout: Layout
    run: str
    name: str
    seed: int

    @property
    def entry(self) -> Eval:
        entry: Eval = self.params.pick("evals", self.name)
        return entry

    @property
    def task(self) -> Any:
        """The plugin."""
        return plugins.find(tasks, self.settings.kind)

    @property
    def settings(self) -> Any:
        """The plugin's own Config."""
        return self.entry.settings

    def job(self, *fold: int) -> Job:
        return Graph(self.params, self.layout).job("evaluate", self.run, self.seed, self.name, *fold)

    @property
    def state(self) -> Path:
        return self.layout.evaluation_state(self.run, self.seed, self.name)


class Shapes(NamedTuple):
    """What a data set says of its shapes, as features files and canonical files both store it."""

    label: Any  # int64 [n]
    split: Any  # text [n]
    id: Any  # text [n]
    classes: tuple[str, ...]


class Found(NamedTuple):
    """What an evaluation found, about which shapes."""

    result: Result
    shapes: Shapes


def evaluate(params: Params, layout: Layout, run: str, name: str, seed: int, fold: int | None = None) -> None:
    """Evaluate one seed of one run by the evaluation `name` of params.yaml, and write the finding.

    `fold` computes one of the trainings that an evaluation consists of; without it, those that are there are gathered
    and the others computed first. One that trains in one go is shared with other ranks where the environment
    says so; the first one writes. Raises fit.Stopped when a signal stops a training.
    """
    asked = Asked(params, layout, run, name, seed)
    if asked.entry.few_labels:
        check_few_labels(params, objectives, run, name)
    if fold is not None:
        _check_fold(asked, fold)
        _compute_fold(asked, fold, *_encoded(asked, fold))
    elif params.evaluation(name).shareable:
        from jepa3d.train import distributed  # only now: it imports torch

        with distributed.joined() as world:
            found = _in_one_go(asked, world)
            if world.first:
                _write(asked, found)
            world.barrier()  # a job is over when its first rank has written
    else:
        _write(asked, {"features": _on_features, "encoder": _from_folds}[asked.task.NEEDS](asked))


def _on_features(asked: Asked) -> Found:
    """The context encoder's features and, where the run has them, the EMA encoder's: the same metrics once more."""
    (path,) = asked.job().reads
    read = opened.features(path)
    shapes, pool = Shapes(read.label, read.split, read.id, read.classes), read.pool
    kept = {"context": read.context} | ({} if read.target is None else {"target": read.target})
    train, test = shapes.split == "train", shapes.split == "test"

    def on(which: str) -> Result:
        x, y, ids, source = kept[which], shapes.label, shapes.id, str(path)
        given = Features(x[train], y[train], x[test], y[test], shapes.classes, source, pool, ids[train], ids[test])
        found: Result = asked.task.evaluate(given, asked.settings, asked.seed)
        return found

    result = on("context")
    if "target" in kept:
        ema = on("target")
        metrics = result.metrics | {
            f"{key}_ema": replace(metric, of=key, encoder="target", per_shape=None)
            for key, metric in ema.metrics.items()
            if metric.encoder != "none"
        }
        notes = (*result.notes, *(f"EMA encoder: {note}" for note in ema.notes if note not in result.notes))
        result = result._replace(metrics=metrics, notes=notes)
    return Found(result, shapes)


def _in_one_go(asked: Asked, world: World) -> Found:
    """The encoder itself, trained on by all ranks; what the first one found counts."""
    given, _ = _encoded(asked, hashed=world.first)
    return _found(asked.task.evaluate(given._replace(world=world), asked.settings, asked.seed), given)


def _from_folds(asked: Asked) -> Found:
    """The encoder itself, trained on several times."""
    given, stamp = _encoded(asked, 0)  # all read the same
    results, codes = [], set()
    for number in range(asked.entry.folds):
        (path,) = asked.job(number).writes
        if not _is_of(path, stamp):
            _compute_fold(asked, number, given, stamp)
        found = finding.read_fold(path)
        results.append(found.result)
        codes.add(found.provenance["code"])
    result: Result = asked.task.gather(results, asked.settings)
    if len(codes) > 1:
        mixed = f"its folds were computed by {len(codes)} versions of the code; remove {path.parent} to have one"
        result = result._replace(notes=(*result.notes, mixed))
    return _found(result, given)


def _found(result: Result, given: Encoded) -> Found:
    with opened.canonical(given.canonical) as file:
        classes = tuple(store.attributes(file)["classes"])
        return Found(result, Shapes(file["label"][:], opened.splits(file["split"]), store.text(file["id"]), classes))


def _write(asked: Asked, found: Found) -> None:
    """Write the finding, and drop the resume state; that of a submitted job its launcher drops, who reads its log."""
    result, shapes = found
    job, test = asked.job(), shapes.split == "test"
    finding.write(
        job.writes[0],
        finding.made(
            f"tasks/{asked.settings.kind}.py",
            provenance=store.stamp(job.verb, job.settings, job.reads),
            run=asked.run,
            seed=asked.seed,
            eval=asked.name,
            dataset=asked.entry.dataset,
            task=slice_of(asked.settings),
            protocol=asked.task.protocol(asked.settings),
            headline=next(iter(result.metrics)),
            metrics=result.metrics,
            notes=result.notes,
            details=result.details,
            predicted=None if result.predicted is None else tuple(result.predicted.tolist()),
            truth=tuple(shapes.label[test].tolist()),
            ids=tuple(shapes.id[test].tolist()),
            classes=shapes.classes,
        ),
    )
    if "JEPA3D_JOB" not in os.environ:
        resume.drop(asked.state)


def _encoded(asked: Asked, *fold: int, hashed: bool = True) -> tuple[Encoded, dict[str, Any]]:
    """What a task that trains on gets for one training, and the stamp of that."""
    params, job = asked.params, asked.job(*fold)
    check_pair(params, tasks, asked.run, asked.name)
    row: Run = params.pick("runs", asked.run)
    scheme = Graph(params, asked.layout).scheme(asked.run, asked.name)
    stamp = store.stamp(job.verb, job.settings, job.reads if hashed else ())
    made_of = json.dumps([stamp["settings"], list(stamp["inputs"].values()), asked.seed], sort_keys=True)
    encoder, canonical, patches = job.reads
    given = Encoded(
        encoder,
        canonical,
        patches,
        scheme=params.pick("patches", scheme),
        model=params.model(row.model),
        run=row,
        execution=params.execution.of_evaluation(asked.name),
        state=asked.state,
        fingerprint=hashlib.sha256(made_of.encode()).hexdigest(),
        about=About(asked.layout.results, asked.run, asked.seed, stamp["settings"], (asked.name,)),
    )
    return given, stamp


def _check_fold(asked: Asked, number: int) -> None:
    count = asked.params.evaluation(asked.name).folds
    if number >= count:
        raise Problem(
            f"evals.{asked.name}: has no fold {number}",
            f"its folds are 0 to {count - 1}" if count else f"a '{asked.settings.kind}' is computed in one go",
            "leave out --fold" if not count else "choose one of them",
        )


def _compute_fold(asked: Asked, number: int, given: Encoded, stamp: dict[str, Any]) -> None:
    """One fold's result, as a file that the evaluation gathers."""
    about = About(asked.layout.results, asked.run, asked.seed, stamp["settings"], (asked.name, f"fold{number}"))
    given = given._replace(state=given.state / f"fold{number}", about=about)
    result: Result = asked.task.fold(given, asked.settings, asked.seed, number)
    found = Fold(
        format=FORMAT,
        provenance=stamp,
        seed=asked.seed,
        fold=number,
        metrics=result.metrics,
        notes=result.notes,
        details=result.details,
    )
    finding.write(asked.job(number).writes[0], found)
    resume.drop(given.state)


def _is_of(path: Path, stamp: dict[str, Any]) -> bool:
    """Whether a fold is there and of these very settings and inputs."""
    try:
        found = finding.read_fold(path).provenance
    except Problem:  # absent, damaged or of an older version
        return False
    hashes = [list(one["inputs"].values()) for one in (found, stamp)]
    return found["settings"] == stamp["settings"] and hashes[0] == hashes[1]

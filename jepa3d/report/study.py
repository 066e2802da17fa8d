"""Every file of the chosen study, read once. A missing file is a Problem that names the command that makes it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jepa3d import config, store
from jepa3d.layout import Layout
from jepa3d.problem import Problem


class Outcome(NamedTuple):
    """One evaluation of one run with one seed."""

    metrics: dict[str, float]
    headline: str  # the metric that the result table shows
    protocol: str
    notes: tuple[str, ...]  # what the task had to leave out or wants said
    predicted: NDArray[np.int64] | None  # [n], where the task makes one prediction per shape
    truth: NDArray[np.int64]  # [n]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def correct(self) -> NDArray[np.float64] | None:
        """1 where the prediction is right, 0 where it is not."""
        return None if self.predicted is None else (self.predicted == self.truth).astype(np.float64)


class Embedding(NamedTuple):
    """The test split's frozen features of one run and seed."""

    features: NDArray[np.float32]  # [n, F]
    label: NDArray[np.int64]  # [n], -1: unlabelled
    ids: tuple[str, ...]
    classes: tuple[str, ...]


class Study(NamedTuple):
    """All that the report needs, in the order of the study."""

    name: str
    about: str
    runs: tuple[str, ...]
    evals: tuple[str, ...]
    seeds: tuple[int, ...]
    outcomes: dict[str, dict[str, tuple[Outcome, ...]]]  # run -> eval -> one per seed
    curves: dict[str, tuple[list[dict[str, Any]], ...]]  # run -> one per seed; [] where nothing was trained
    embeddings: dict[str, Embedding]  # run -> the first seed's, of `mapped`
    mapped: str | None  # the data set of the embeddings: that of the first evaluation on frozen features
    audits: dict[str, dict[str, Any]]  # data set -> its audit


def read(params: config.Params, layout: Layout) -> Study:
    """Read the chosen study. Raises a Problem at the first missing or damaged file."""
    chosen = params.chosen
    mapped = mapped_dataset(params)
    datasets = dict.fromkeys(
        [params.evals[name].dataset for name in chosen.evals]
        + [data for run in chosen.runs for data in params.runs[run].data]
    )
    return Study(
        params.study,
        chosen.about,
        chosen.runs,
        chosen.evals,
        chosen.seeds,
        {
            run: {name: tuple(outcome(layout, run, seed, name) for seed in chosen.seeds) for name in chosen.evals}
            for run in chosen.runs
        },
        {run: tuple(curve(layout, run, seed) for seed in chosen.seeds) for run in chosen.runs},
        {run: embedding(layout, run, chosen.seeds[0], mapped) for run in chosen.runs} if mapped else {},
        mapped,
        {name: audit(layout, name) for name in datasets},
    )


def mapped_dataset(params: config.Params) -> str | None:
    """The data set whose embeddings are drawn: that of the study's first evaluation on frozen features."""
    names = [params.evals[name].dataset for name in params.chosen.evals if params.needs(name) == "features"]
    return names[0] if names else None


def pictured_dataset(params: config.Params) -> str:
    """The data set whose shapes are drawn: the mapped one, else that of the first evaluation."""
    return mapped_dataset(params) or params.evals[params.chosen.evals[0]].dataset


def outcome(layout: Layout, run: str, seed: int, name: str) -> Outcome:
    path = layout.evaluation(run, seed, name)
    present(path, f"jepa3d evaluate {run} {name} --seed {seed}")
    data = store.read_json(path)
    try:
        headline = data["headline"]
        return Outcome(
            {
                headline: float(data["metrics"][headline]),
                **{key: float(value) for key, value in data["metrics"].items()},
            },
            headline,
            data["protocol"],
            tuple(data.get("notes", ())),
            None if data["predicted"] is None else np.asarray(data["predicted"], np.int64),
            np.asarray(data["truth"] or [], np.int64),
            tuple(map(str, data["ids"] or ())),
            tuple(data["classes"] or ()),
            data["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Problem(
            f"{path}: not an evaluation of this version ({error!r})",
            "it was written by other code, or by hand",
            f"remove it and run: jepa3d evaluate {run} {name} --seed {seed}",
        ) from None


def curve(layout: Layout, run: str, seed: int) -> list[dict[str, Any]]:
    """The lines of a training curve that belong to a step; the last one where a resumed run wrote a step twice."""
    path = layout.curve(run, seed)
    present(path, f"jepa3d pretrain {run} --seed {seed}")
    lines = {line["step"]: line for line in store.read_jsonl(path) if isinstance(line.get("step"), int)}
    return [lines[step] for step in sorted(lines)]


def embedding(layout: Layout, run: str, seed: int, dataset: str) -> Embedding:
    """The test split's context features; all shapes where there is no test split."""
    path = layout.features(run, seed, dataset)
    present(path, f"jepa3d embed {run} {dataset} --seed {seed}")
    with store.open_h5(path) as file:
        features = np.asarray(file["context"][:], np.float32)
        label = np.asarray(file["label"][:], np.int64) if "label" in file else np.full(len(features), -1)
        split, ids = (store.text(file[key]) for key in ("split", "id"))
        classes = tuple(store.attributes(file).get("classes", ()))
    keep = split == "test" if (split == "test").any() else np.ones(len(split), bool)
    return Embedding(features[keep], label[keep], tuple(ids[keep]), classes)


def audit(layout: Layout, dataset: str) -> dict[str, Any]:
    path = layout.audit(dataset)
    present(path, f"jepa3d convert {dataset}")
    found: dict[str, Any] = store.read_json(path)
    return found


def codes(study: Study) -> dict[str, int]:
    """Which versions of the code wrote the evaluations, and how many each: more than one deserves a warning."""
    found: dict[str, int] = {}
    for evaluation in all_outcomes(study):
        code = str(evaluation.provenance.get("code", "unknown"))
        found[code] = found.get(code, 0) + 1
    return found


def fingerprint(study: Study) -> str:
    """A short hash over every evaluation's stamp: equal for two reports that show the same results."""
    digest = hashlib.sha256()
    for evaluation in all_outcomes(study):
        digest.update(repr((sorted(evaluation.provenance.items(), key=str), evaluation.metrics)).encode())
    return digest.hexdigest()[:12]


def all_outcomes(study: Study) -> list[Outcome]:
    return [found for of_run in study.outcomes.values() for seeds in of_run.values() for found in seeds]


def present(path: Path, command: str) -> None:
    """Raise a Problem with the command that makes a missing file."""
    if not path.exists():
        raise Problem(
            f"{path}: no such file", "the report of the chosen study reads it", f"run: {command}, or: make all"
        )

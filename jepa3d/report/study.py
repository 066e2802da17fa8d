"""Every file of the chosen study, read once. A missing file is a Problem that names the command that makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jepa3d.graph import Graph, sources
from jepa3d.layout import Layout
from jepa3d.params import Params
from jepa3d.problem import Problem
from jepa3d.report import terms
from jepa3d.report.terms import Terms
from jepa3d.results import finding, opened, store
from jepa3d.results.costs import Spent, by_verb
from jepa3d.results.finding import Finding


class Embedding(NamedTuple):
    """The test split's frozen features of one run and seed."""

    features: NDArray[np.float32]  # [n, F]
    label: NDArray[np.int64]  # [n], -1: unlabelled
    ids: tuple[str, ...]
    classes: tuple[str, ...]


class Training(NamedTuple):
    """What one run and seed logged while it trained."""

    rows: list[dict[str, Any]]  # a line a logged step; [] where nothing was trained
    cost: dict[str, Any]  # seconds, threads and device; {} where it is unknown


Overlap = dict[str, dict[str, Any]]


class Study(NamedTuple):
    """All that the report needs, in the order of the study. A run need not have every evaluation and every seed."""

    name: str
    about: str
    runs: tuple[str, ...]
    evals: tuple[str, ...]
    seeds: tuple[int, ...]
    outcomes: dict[str, dict[str, dict[int, Finding]]]  # run -> eval -> seed; only what is part of the study
    trainings: dict[str, dict[int, Training]]  # run -> seed
    embeddings: dict[str, Embedding]  # run -> its first seed's, of `mapped`
    mapped: str | None  # the data set of the embeddings: that of the first evaluation on frozen features
    audits: dict[str, dict[str, Any]]  # data set -> its audit
    costs: tuple[Spent, ...] = ()  # of each verb; () where Snakemake measured nothing
    terms: Mapping[str, Terms] = {}  # of each run that was trained, and of the first stage that one reads
    overlaps: Mapping[str, Overlap] = {}  # data set -> whose train split -> what was found there

    def of(self, run: str, name: str) -> tuple[Finding, ...]:
        """One outcome per seed; () where the study does not evaluate this run so."""
        return tuple(self.outcomes[run].get(name, {}).values())

    def seeds_of(self, run: str, name: str) -> tuple[int, ...]:
        return tuple(self.outcomes[run].get(name, {}))

    def runs_of(self, name: str) -> tuple[str, ...]:
        """The runs that the study evaluates by `name`; never empty."""
        return tuple(run for run in self.runs if name in self.outcomes[run])

    def steps(self, run: str) -> int:
        """The length of a run's training; 0 where nothing was trained."""
        return max((of.rows[-1]["step"] for of in self.trainings[run].values() if of.rows), default=0)

    def first(self, name: str) -> Finding:
        """Any outcome of an evaluation: its headline, protocol and classes are the same for all."""
        return self.of(self.runs_of(name)[0], name)[0]


def read(params: Params, layout: Layout) -> Study:
    """Read the chosen study. Raises a Problem at the first missing or damaged file."""
    chosen = params.chosen
    mapped = mapped_dataset(params)
    runs, evals = chosen.run_names(), chosen.eval_names()
    datasets = dict.fromkeys(
        [params.evals[name].dataset for name in evals] + [data for run in runs for data in params.runs[run].data]
    )
    outcomes: dict[str, dict[str, dict[int, Finding]]] = {run: {} for run in runs}
    for run, name, seed in sorted(chosen.cells(), key=lambda cell: (evals.index(cell.evaluation), cell.seed)):
        outcomes[run].setdefault(name, {})[seed] = outcome(layout, run, seed, name)
    trainings: dict[str, dict[int, Training]] = {run: {} for run in runs}
    for run, seed in sorted(chosen.trainings(), key=lambda pair: pair[1]):
        trainings[run][seed] = training(layout, run, seed)
    audits = {name: audit(layout, name) for name in datasets}
    return Study(
        params.study,
        chosen.about,
        runs,
        evals,
        tuple(sorted({seed for _, seed in chosen.trainings()})),
        outcomes,
        trainings,
        {run: embedding(layout, run, seed, mapped) for run, seed in embedded(params, mapped).items()} if mapped else {},
        mapped,
        audits,
        # all but the report's own, which is measured when the page is there: the page would not be the same again
        tuple(spent for spent in by_verb(layout, Graph(params, layout).jobs()[:-1]) if spent.measured),
        all_terms(params, layout, trainings, audits),
        overlaps(params, layout),
    )


def all_terms(
    params: Params,
    layout: Layout,
    trainings: Mapping[str, Mapping[int, Training]],
    audits: Mapping[str, Mapping[str, Any]],
) -> dict[str, Terms]:
    """The terms of the runs that were trained, each after the first stage that it reads, where that is still there."""
    found: dict[str, Terms] = {}
    for name, seeds in trainings.items():
        seed, first = min(seeds), params.runs[name].objective.reads
        staged = [first] if first is not None and layout.curve(first, seed).exists() else []
        for run in (*staged, name):
            own = seeds.values() if run == name else [training(layout, run, seed)]
            entry = params.runs[run]
            steps = max((of.rows[-1]["step"] for of in own if of.rows), default=0)
            reads = None if entry.objective.reads is None else layout.encoder(entry.objective.reads, seed)
            if not steps or (reads is not None and not reads.exists()):
                continue
            data = audits.get(entry.data[0]) if len(entry.data) == 1 else None
            classes = len(data["classes"]) if data else 0
            before = found[entry.objective.reads].pflop if entry.objective.reads in found else 0.0
            made = terms.of_run(params, run, steps, [of.cost for of in own], classes, reads)
            found[run] = made._replace(before=before)
    return found


def mapped_dataset(params: Params) -> str | None:
    """The data set whose embeddings are drawn: that of the study's first evaluation on frozen features."""
    names = [
        params.evals[name].dataset for name in params.chosen.eval_names() if params.evals[name].needs == "features"
    ]
    return names[0] if names else None


def embedded(params: Params, mapped: str) -> dict[str, int]:
    """The runs whose features of the mapped data set the study makes, with the first seed of each."""
    found: dict[str, int] = {}
    for run, name, seed in params.chosen.cells():
        if params.evals[name].dataset == mapped and params.evals[name].needs == "features":
            found[run] = min(seed, found.get(run, seed))
    return {run: found[run] for run in params.chosen.run_names() if run in found}


def pictured_dataset(params: Params, run: str) -> str:
    """The data set whose shapes are drawn with the patches of a run: the mapped one where the run is evaluated on it,
    else another that it is evaluated on, else its own."""
    names = [cell.evaluation for cell in params.chosen.cells() if cell.run == run]
    same = [name for name in names if params.evals[name].patches in (None, params.runs[run].patches)]
    datasets = [params.evals[name].dataset for name in same]
    mapped = mapped_dataset(params)
    return mapped if mapped in datasets else next(iter(datasets), params.runs[run].data[0])


def first_seed(params: Params, run: str) -> int:
    return min(seed for trained, seed in params.chosen.trainings() if trained == run)


def outcome(layout: Layout, run: str, seed: int, name: str) -> Finding:
    path, command = layout.evaluation(run, seed, name), f"jepa3d evaluate {run} {name} --seed {seed}"
    present(path, command)
    return finding.read(path, command)


def training(layout: Layout, run: str, seed: int) -> Training:
    """A row for each step of a training curve, and what the training cost.

    The lines of one step are one row: the loop's, the monitor's. Where a resumed run wrote a step twice, the later
    line counts."""
    path = layout.curve(run, seed)
    present(path, f"jepa3d pretrain {run} --seed {seed}")
    lines = opened.curve(path)
    rows: dict[int, dict[str, Any]] = {}
    for line in lines:
        if "cost" not in line:
            rows.setdefault(line["step"], {}).update(line)
    cost: dict[str, Any] = next((line["cost"] for line in reversed(lines) if "cost" in line), {})
    return Training([rows[step] for step in sorted(rows)], cost)


def embedding(layout: Layout, run: str, seed: int, dataset: str) -> Embedding:
    """The test split's context features; all shapes where there is no test split."""
    path = layout.features(run, seed, dataset)
    present(path, f"jepa3d embed {run} {dataset} --seed {seed}")
    read = opened.features(path)
    keep = read.split == "test" if (read.split == "test").any() else np.ones(len(read.split), bool)
    return Embedding(read.context[keep], read.label[keep], tuple(read.id[keep]), read.classes)


def audit(layout: Layout, dataset: str) -> dict[str, Any]:
    path = layout.audit(dataset)
    present(path, f"jepa3d convert {dataset}")
    return opened.audit(path)


def overlaps(params: Params, layout: Layout) -> dict[str, Overlap]:
    """Of each data set that is evaluated, with those whose train splits its evaluations have seen."""
    found: dict[str, Overlap] = {}
    for run, name, _ in params.chosen.cells():
        dataset = params.evals[name].dataset
        for source in sources(params, run, name):
            if source not in found.setdefault(dataset, {}):
                path = layout.overlap(dataset, source)
                present(path, f"jepa3d convert {dataset} --overlap {source}")
                found[dataset][source] = store.read_json(path)
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
        numbers = {name: metric.value for name, metric in evaluation.metrics.items()}
        digest.update(repr((sorted(evaluation.provenance.items(), key=str), numbers)).encode())
    return digest.hexdigest()[:12]


def all_outcomes(study: Study) -> list[Finding]:
    return [found for of_run in study.outcomes.values() for seeds in of_run.values() for found in seeds.values()]


def present(path: Path, command: str) -> None:
    """Raise a Problem with the command that makes a missing file."""
    if not path.exists():
        raise Problem(
            f"{path}: no such file", "the report of the chosen study reads it", f"run: {command}, or: make all"
        )

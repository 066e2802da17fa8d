"""The graph: what each job reads, what it writes, and which slice of params.yaml it depends on.

Every edge is known here and nowhere else. Snakemake's rules, the stages' stamps, what is current, the launcher,
`doctor` and the report ask.

A job is a verb with names, in the order in which they stand in the paths of what it writes:

    download DATASET        patchify SCHEME DATASET [SHARD]     embed RUN SEED DATASET
    convert DATASET         pretrain RUN SEED                   evaluate RUN SEED EVALUATION [FOLD]
    convert DATASET SOURCE  report STUDY

`convert DATASET SOURCE` looks for the test shapes of a data set in the train split of another, or in its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jepa3d.layout import Layout, place_of
from jepa3d.params import Params, Study, run_slice, slice_of

VERBS = ("download", "convert", "patchify", "pretrain", "embed", "evaluate", "report")
Paths = tuple[Path, ...]


class Job(NamedTuple):
    """One command of `jepa3d`."""

    verb: str
    names: tuple[str, ...]
    reads: Paths
    writes: Paths  # folders among them: a report's pictures
    settings: dict[str, Any]  # what of params.yaml it depends on, as its outputs are stamped

    @property
    def command(self) -> str:
        place = place_of(self.writes[0])
        assert place is not None  # every output has one
        return place.command


@dataclass(frozen=True)
class Graph:
    """The jobs that a params.yaml can ask for, in one results folder."""

    params: Params
    layout: Layout

    def job(self, verb: str, *names: str | int) -> Job:
        """A job by its names. An unknown name is a Problem with the nearest valid one."""
        words = tuple(map(str, names))
        settings = self._settings(verb, words)  # first: it knows the names
        return Job(verb, words, self._reads(verb, words), writes(self.layout, verb, *words), settings)

    def jobs(self, study: str | None = None) -> tuple[Job, ...]:
        """All jobs of a study, of the chosen one if none is named: each once, and after those whose files it reads."""
        return self.upstream([self.job("report", study or self.params.study)])

    def upstream(self, last: Iterable[Job]) -> tuple[Job, ...]:
        """These jobs and all that have to come before them, verb by verb."""
        found: dict[tuple[str, ...], Job] = {}

        def visit(job: Job) -> None:
            key = (job.verb, *job.names)
            if key not in found:
                for path in job.reads:
                    place = place_of(path)  # None: a file of the user's own, with which a run begins
                    own = place is not None and place.results == self.layout.results
                    if place is not None and own and (place.verb, *place.names) not in found:
                        visit(self.job(place.verb, *place.names))
                found[key] = job

        for job in last:
            visit(job)
        return tuple(sorted(found.values(), key=lambda job: VERBS.index(job.verb)))

    def scheme(self, run: str, evaluation: str) -> str:
        """The patches that an evaluation of the encoder itself reads: its own scheme, else the run's."""
        name: str = self.params.pick("evals", evaluation).patches or self.params.pick("runs", run).patches
        return name

    def _reads(self, verb: str, names: tuple[str, ...]) -> Paths:
        layout, params = self.layout, self.params
        match verb, names:
            case "convert", (dataset,):
                return (layout.source(dataset),)
            case "convert", (dataset, source):
                return tuple(dict.fromkeys(map(layout.canonical, (dataset, source))))
            case "patchify", (_, dataset, _):
                return (layout.canonical(dataset),)
            case "patchify", (scheme, dataset):
                count = params.dataset(dataset).shards
                shards = range(count if count > 1 else 0)
                return layout.canonical(dataset), *(layout.shard(scheme, dataset, number) for number in shards)
            case "pretrain", (run, seed):
                entry = params.runs[run]
                datasets = dict.fromkeys([*entry.data, *filter(None, [entry.monitor.probe])])
                shapes = (path for data in datasets for path in self._clouds(entry.patches, data))
                before = (layout.encoder(other, seed) for other in entry.stages_before)
                return *shapes, *before, *filter(None, [entry.init_file])
            case "embed", (run, seed, dataset):
                return layout.encoder(run, seed), *self._clouds(params.runs[run].patches, dataset)
            case "evaluate", (run, seed, name, *fold):
                asked = params.evaluation(name)
                if asked.needs == "features":
                    return (layout.features(run, seed, asked.dataset),)
                folds = range(0 if fold else asked.folds)
                clouds = self._clouds(self.scheme(run, name), asked.dataset)
                return layout.encoder(run, seed), *clouds, *(layout.fold(run, seed, name, number) for number in folds)
            case "report", (study,):
                return self._shown(params.studies[study])
        return ()

    def _clouds(self, scheme: str, dataset: str) -> Paths:
        return self.layout.canonical(dataset), self.layout.patches(scheme, dataset)

    def _shown(self, study: Study) -> Paths:
        """What a report is made of: numbers of evaluations, maps of features, curves, audits, pictures of shapes."""
        layout, params = self.layout, self.params
        found: list[Path] = []
        for run, name, seed in study.cells():
            entry = params.evaluation(name)
            found.append(layout.evaluation(run, seed, name))
            found += [layout.features(run, seed, entry.dataset)] if entry.needs == "features" else []
            scheme = self.scheme(run, name) if entry.needs == "encoder" else params.runs[run].patches
            found += [layout.audit(entry.dataset), *self._clouds(scheme, entry.dataset)]
            found += [layout.overlap(entry.dataset, source) for source in sources(params, run, name)]
        for run, seed in study.trainings():
            found += [layout.curve(run, seed), layout.encoder(run, seed)]
            for data in params.runs[run].data:
                found += [layout.audit(data), *self._clouds(params.runs[run].patches, data)]
        return tuple(dict.fromkeys(found))

    def _settings(self, verb: str, names: tuple[str, ...]) -> dict[str, Any]:
        params = self.params
        match verb, names:
            case "download" | "convert", (dataset,):
                return slice_of(params.dataset(dataset))
            case "convert", (dataset, source):
                params.dataset(dataset), params.dataset(source)
                return {"test": dataset, "train": source}
            case "patchify", (scheme, dataset, *shard):
                settings, shards = slice_of(params.pick("patches", scheme)), params.dataset(dataset).shards
                return settings | ({"shard": [int(shard[0]), shards]} if shard else {})
            case "pretrain", (run, seed):
                return run_slice(params, run) | {"seed": int(seed)}
            case "embed", (run, seed, dataset):
                params.pick("runs", run), params.dataset(dataset)
                return {"run": run, "dataset": dataset, "seed": int(seed)}
            case "evaluate", (run, _, name, *_):
                params.pick("runs", run)
                return slice_of(params.evaluation(name))
            case "report", (study,):
                words = {run: params.runs[run].about for run in params.pick("studies", study).run_names()}
                return {"name": study, "study": slice_of(params.studies[study]), "about": words}
        raise ValueError(f"no job is called '{verb} {' '.join(names)}'")  # a mistake of the code, not of a user


def sources(params: Params, run: str, evaluation: str) -> tuple[str, ...]:
    """The data sets whose train splits an evaluation of a run has seen: those of pretraining, and its own."""
    return tuple(dict.fromkeys([*params.runs[run].data, params.evaluation(evaluation).dataset]))


def writes(layout: Layout, verb: str, *names: str) -> Paths:
    """What a job writes; a name may be a wildcard of Snakemake, but a study's."""
    match verb, names:
        case "download", (dataset,):
            return (layout.source(dataset),)
        case "convert", (dataset,):
            return layout.canonical(dataset), layout.audit(dataset)
        case "convert", (dataset, source):
            return (layout.overlap(dataset, source),)
        case "patchify", (scheme, dataset):
            return (layout.patches(scheme, dataset),)
        case "patchify", (scheme, dataset, shard):
            return (layout.shard(scheme, dataset, shard),)
        case "pretrain", (run, seed):
            return layout.encoder(run, seed), layout.run_config(run, seed), layout.curve(run, seed)
        case "embed", (run, seed, dataset):
            return (layout.features(run, seed, dataset),)
        case "evaluate", (run, seed, name):
            return (layout.evaluation(run, seed, name),)
        case "evaluate", (run, seed, name, fold):
            return (layout.fold(run, seed, name, fold),)
        case "report", (study,):
            return *layout.study(study), *layout.chosen
    raise ValueError(f"no job is called '{verb} {' '.join(names)}'")

"""Every path under results/: for the rules, the stages and the tests, so that no path is written twice.

The names with braces are Snakemake's wildcards: `Layout("results").canonical("{dataset}")` is a rule's pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Report(NamedTuple):
    """The files of one study's report; `plots` is a folder."""

    metrics: Path
    page: Path
    card: Path
    plots: Path


@dataclass(frozen=True)
class Layout:
    """Paths of one results folder. Every method returns a path relative to where `results` is."""

    results: Path = Path("results")

    def raw(self, dataset: str) -> Path:
        return self.results / "raw" / dataset

    def source(self, dataset: str) -> Path:
        return self.raw(dataset) / "SOURCE.json"

    def canonical(self, dataset: str) -> Path:
        return self.results / "canonical" / f"{dataset}.h5"

    def audit(self, dataset: str) -> Path:
        return self.results / "canonical" / f"{dataset}.audit.json"

    def overlap(self, dataset: str, source: str) -> Path:
        """Which test shapes of `dataset` are in the train split of `source`, too."""
        return self.results / "canonical" / f"{dataset}.overlap" / f"{source}.json"

    def patches(self, scheme: str, dataset: str) -> Path:
        return self.results / "patches" / scheme / f"{dataset}.h5"

    def shard(self, scheme: str, dataset: str, number: int | str) -> Path:
        """The patches of some of a large data set's shapes, by a job of its own."""
        return self.results / "patches" / scheme / f"{dataset}.shards" / f"{number}.h5"

    def pretrain(self, run: str, seed: int | str) -> Path:
        return self.results / "pretrain" / run / f"seed{seed}"

    def encoder(self, run: str, seed: int | str) -> Path:
        return self.pretrain(run, seed) / "encoder.safetensors"

    def run_config(self, run: str, seed: int | str) -> Path:
        return self.pretrain(run, seed) / "config.json"

    def curve(self, run: str, seed: int | str) -> Path:
        return self.pretrain(run, seed) / "curve.jsonl"

    def state(self, run: str, seed: int | str) -> Path:
        """Resume state: undeclared to Snakemake, which deletes the declared outputs of a failed rule."""
        return self.results / ".state" / run / f"seed{seed}"

    def launched(self, run: str, seed: int | str, evaluation: str | None = None) -> Path:
        """A submitted training's job, or an evaluation's: its number, its log, how its ranks ended."""
        state = self.state(run, seed) if evaluation is None else self.evaluation_state(run, seed, evaluation)
        return state / "launch"

    def features(self, run: str, seed: int | str, dataset: str) -> Path:
        return self.results / "features" / run / f"seed{seed}" / f"{dataset}.h5"

    def evaluation(self, run: str, seed: int | str, name: str) -> Path:
        return self.results / "evals" / run / f"seed{seed}" / f"{name}.json"

    def fold(self, run: str, seed: int | str, name: str, number: int | str) -> Path:
        """One of the trainings that an evaluation consists of, each a job of its own."""
        return self.results / "evals" / run / f"seed{seed}" / f"{name}.folds" / f"{number}.json"

    def evaluation_state(self, run: str, seed: int | str, name: str) -> Path:
        """Resume state of an evaluation that trains."""
        return self.state(run, seed) / "evals" / name

    def study(self, name: str) -> Report:
        """The report of a study, beside those of the others."""
        folder = self.results / "studies" / name
        return Report(folder / "metrics.json", folder / "index.html", folder / "model_card.md", folder / "plots")

    @property
    def chosen(self) -> Report:
        """The same of the chosen study, where users and `dvc metrics diff` look for it."""
        return Report(self.metrics, self.report, self.card, self.plots)

    @property
    def metrics(self) -> Path:
        return self.results / "metrics.json"

    @property
    def report(self) -> Path:
        return self.results / "report" / "index.html"

    @property
    def card(self) -> Path:
        return self.results / "report" / "model_card.md"

    @property
    def plots(self) -> Path:
        return self.results / "plots"

    def log(self, verb: str, *names: str) -> Path:
        """What a job of the workflow said on the screen."""
        return self.results.joinpath("logs", verb, *names[:-1], f"{names[-1]}.log")

    def benchmark(self, verb: str, *names: str) -> Path:
        """What a job of the workflow cost, as Snakemake measures it."""
        return self.results.joinpath("benchmarks", verb, *names[:-1], f"{names[-1]}.tsv")

    def claim(self, verb: str, *names: str) -> Path:
        """What says that a command is at work, and whose it is."""
        return self.results.joinpath(".claims", verb, *names[:-1], f"{names[-1]}.lock")

    @property
    def records(self) -> Path:
        """What is written down about every output: one JSON file each, under the verb that made it."""
        return self.results / "records"

    def record(self, place: Place) -> Path:
        return self.records / place.verb / f"{place.relative}.json"


_MAKERS = {
    r"raw/([^/]+)/SOURCE\.json": "download {0}",
    r"canonical/([^/]+?)(?:\.audit\.json|\.h5)": "convert {0}",
    r"canonical/([^/]+)\.overlap/([^/]+)\.json": "convert {0} --overlap {1}",
    r"patches/([^/]+)/([^/]+)\.h5": "patchify {0} {1}",
    r"patches/([^/]+)/([^/]+)\.shards/(\d+)\.h5": "patchify {0} {1} --shard {2}",
    r"pretrain/([^/]+)/seed(\d+)/[^/]+": "pretrain {0} --seed {1}",
    r"features/([^/]+)/seed(\d+)/([^/]+)\.h5": "embed {0} {2} --seed {1}",
    r"evals/([^/]+)/seed(\d+)/([^/]+)\.json": "evaluate {0} {2} --seed {1}",
    r"evals/([^/]+)/seed(\d+)/([^/]+)\.folds/(\d+)\.json": "evaluate {0} {2} --seed {1} --fold {3}",
    r"studies/([^/]+)/(?:metrics\.json|index\.html|model_card\.md|plots/[^/]+)": "report",
    r"(?:metrics\.json|report/[^/]+|plots/[^/]+)": "report",
}


class Place(NamedTuple):
    """Where one of our files belongs: its results folder, its path in there, and what makes it."""

    results: Path
    relative: str
    verb: str
    names: tuple[str, ...]  # as they stand in the path: a run, its seed, then what is made of it
    command: str


def place_of(path: Path) -> Place | None:
    """The place of a file that a verb makes; None for any other file."""
    text = path.as_posix()
    for pattern, words in _MAKERS.items():
        if found := re.search(f"(?:^|/)({pattern})$", text):
            relative, *names = found.groups()
            verb = words.split()[0]
            study = f"--study {names[0]} " if verb == "report" and names else ""
            command = f"jepa3d {study}{words.format(*names)}"
            return Place(Path(text[: found.start(1)]), relative, verb, tuple(names), command)
    return None


def made_by(path: Path) -> str:
    """The command that makes one of our files, for messages; empty for a file that no verb makes."""
    place = place_of(path)
    return place.command if place else ""

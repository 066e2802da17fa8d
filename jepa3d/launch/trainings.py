"""What can be submitted: a pretraining, and an evaluation that trains the encoder on in one go."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jepa3d.graph import Graph
from jepa3d.launch import launcher
from jepa3d.launch.cluster import Cluster, check_share
from jepa3d.launch.job import Place, Where, Work
from jepa3d.layout import Layout
from jepa3d.params import Fit, Params
from jepa3d.problem import Problem


@dataclass(frozen=True)
class Named:
    """A training by its names: of a run with a seed, or of an evaluation of it."""

    run: str
    seed: int
    evaluation: str | None = None

    @property
    def label(self) -> str:
        return " ".join(filter(None, (self.run, self.evaluation, f"seed {self.seed}")))

    @property
    def verb(self) -> str:
        return "evaluate" if self.evaluation else "pretrain"

    @property
    def words(self) -> tuple[str, ...]:
        return (self.run, *([self.evaluation] if self.evaluation else []), "--seed", str(self.seed))

    @property
    def cancel(self) -> str:
        """The command that ends its job."""
        return " ".join(("jepa3d cancel", *self.words))

    def place(self, layout: Layout) -> Place:
        return Place.of(layout, self.run, self.seed, self.evaluation)


class Needs(NamedTuple):
    """What is known of a training before it is submitted."""

    fit: Fit
    settings: list[dict[str, Any]]  # all of params.yaml that it depends on
    inputs: tuple[Path, ...]
    result: Path  # the file that is written last


def launch(
    params: Params,
    source: Path,
    layout: Layout,
    named: Named,
    where: Where,
    cluster: Cluster,
    helper: tuple[str, ...],
) -> int:
    """Submit a training, or find its running job; follow it to its end, and return its exit code.

    `source` is the params.yaml that `params` came from, `helper` the command that submits. Raises a Problem
    for what is known before a submission.
    """
    needs = _needs(Graph(params, layout), named)
    cluster = cluster if needs.fit.steps != 0 else cluster.single()
    check_share(
        cluster, needs.fit, f"evals.{named.evaluation}.task.fit" if named.evaluation else f"runs.{named.run}.fit"
    )
    work = Work(
        place=named.place(layout),
        label=named.label,
        source=source,
        arguments=(f"--results={layout.results}", named.verb, *named.words),
        settings=hashlib.sha256(json.dumps(needs.settings, sort_keys=True).encode()).hexdigest(),
        inputs=needs.inputs,
        result=needs.result,
        cancel=named.cancel,
        helper=helper,
    )
    return launcher.attend(work, where, cluster)


def cancel(named: Named, layout: Layout) -> str:
    """End the job of a training, and wait until it is gone. Returns what was done, in words."""
    job = launcher.cancel(named.place(layout))
    if job is None:
        return f"{named.label}: no job is waiting or running"
    return f"{named.label}: job {job} is cancelled; 'jepa3d {named.verb}' goes on from its last checkpoint"


def refuse_beside(named: Named, layout: Layout) -> None:
    """A Problem where a job already trains what this process is about to train."""
    place = named.place(layout)
    if place.record.exists() and (record := launcher.running(place)) is not None:
        raise Problem(
            f"{named.label}: job {record['id']} trains it",
            "two trainings would overwrite each other's state",
            f"follow it with --launch {record['where']}, or end it: {named.cancel}",
        )


def _needs(graph: Graph, named: Named) -> Needs:
    params, name = graph.params, named.evaluation
    if name is not None and not params.evaluation(name).shareable:
        count = params.evaluation(name).folds
        raise Problem(
            f"evals.{name}: nothing here that ranks could share",
            f"it is {count} short trainings of their own" if count else "it scores frozen features",
            f"leave out --launch and --cluster{'; --fold NUMBER is one of the trainings' if count else ''}",
        )
    job = graph.job(named.verb, named.run, named.seed, *([name] if name else []))
    fit = params.evaluation(name).settings.fit if name else params.pick("runs", named.run).fit
    return Needs(fit, [of.settings for of in graph.upstream([job])], job.reads, job.writes[0])
